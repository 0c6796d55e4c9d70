// SPDX-License-Identifier: Apache-2.0

package neighbor

import "net/netip"

// Ask is a question that Probe puts on the wire.
type Ask struct {
	Dst netip.Addr `json:"dst"` // the gateway
	Dev string     `json:"dev"` // name of the link inside the namespace

	// Src is the sandbox's own address to ask from, past the detection of
	// duplicates. Invalid: there is none (yet), so that IPv4 is asked for from the
	// unspecified address and IPv6 not at all.
	Src netip.Addr `json:"src,omitzero"`

	LLAddr HardwareAddr `json:"srcLLAddr"` // the link's own
}
