// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

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

// sourcesAtMost bounds the addresses of one link that are considered.
const sourcesAtMost = 64

// askInstead notes a question for a gateway that was skipped, if one could help.
func (r *resolver) askInstead(ctx context.Context, k key, l link, reason Reason) error {
	if !reason.Learnable() || !l.lladdr.IsUnicast() {
		return nil
	}
	own, err := r.conn.sources(ctx, k.index, familyNumber(k.dst))
	if err != nil {
		return fmt.Errorf("read addresses of link %s: %w", printable(l.name), err)
	}
	r.result.Unknown = append(r.result.Unknown, Ask{Dst: k.dst, Dev: l.name, Src: sourceFor(k.dst, own), LLAddr: l.lladdr})
	return nil
}

// sources lists addresses of a link that questions may come from: not those that
// IPv6 has not finished to make sure of, or found to be somebody else's (RFC 4862,
// section 5.4).
func (c *conn) sources(ctx context.Context, index int, family uint8) (own []ifaddr, err error) {
	err = c.dump(ctx, addrsRequest(family, index, nsidNone), func() { own = nil }, func(body []byte) error {
		a, err := parseAddr(body)
		if err == nil && a.index == index && a.flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 && len(own) < sourcesAtMost {
			own = append(own, a)
		}
		return err
	})
	if errors.Is(err, unix.ENODEV) { // removed meanwhile
		return nil, nil
	}
	return own, err
}

// sourceFor chooses the address that fits a gateway best: one whose subnet the
// gateway is in, which for a link-local gateway is a link-local one; then one of
// global scope; then any.
func sourceFor(dst netip.Addr, own []ifaddr) (best netip.Addr) {
	const none, anyScope, global, onLink = 0, 1, 2, 3
	rank := none
	for _, a := range own {
		fits := anyScope
		switch {
		case a.subnet.Contains(dst):
			fits = onLink
		case a.scope == unix.RT_SCOPE_UNIVERSE:
			fits = global
		}
		if fits > rank {
			best, rank = a.ip, fits
		}
	}
	return best
}
