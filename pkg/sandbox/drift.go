// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"net/netip"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// ReasonInsists says that somebody in the sandbox replaced the pin again and
// again. It joins the reasons of package neighbor.
const ReasonInsists neighbor.Reason = "Insists"

// insistence is how often a pin is replaced until that is so.
const insistence = 3

// ReasonNoAnswer says that nobody answered for a gateway that only asking could
// find. It joins the reasons of package neighbor.
const ReasonNoAnswer neighbor.Reason = "NoAnswer"

// ReasonConflict says that more than one station claims a gateway that only
// asking could find. It joins the reasons of package neighbor.
const ReasonConflict neighbor.Reason = "Conflict"

// Stale is a copy that a runtime took of a pin and that is not true any more.
type Stale struct {
	Dst netip.Addr `json:"dst"`
	Dev string     `json:"dev"`
	// Copied is what the runtime has, and Source where that came from.
	Copied neighbor.HardwareAddr `json:"copied"`
	Source neighbor.Source       `json:"source"`
	// LLAddr is what is true now; empty when nothing is, for Reason.
	LLAddr neighbor.HardwareAddr `json:"lladdr,omitempty"`
	Reason neighbor.Reason       `json:"reason,omitempty"`
	// Since is when that was found.
	Since time.Time `json:"since"`
}

// Doubt is what speaks against a gateway that was, or is to be, learned by asking.
type Doubt struct {
	Dst netip.Addr `json:"dst"`
	Dev string     `json:"dev"`
	// Reason is ReasonConflict or ReasonNoAnswer.
	Reason neighbor.Reason `json:"reason"`
	// Claims are the stations that claim the gateway, with ReasonConflict.
	Claims []neighbor.HardwareAddr `json:"claims,omitempty"`
	// Since is when that was found.
	Since time.Time `json:"since"`
}
