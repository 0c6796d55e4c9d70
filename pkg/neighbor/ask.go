// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// Ask is a question that package probe puts on the wire.
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
func (r *resolver) askInstead(ctx context.Context, k key, l rtnetlink.Link, reason Reason) error {
	if !reason.Learnable() || !HardwareAddr(l.LLAddr).IsUnicast() {
		return nil
	}
	own, err := r.sources(ctx, k.Index, rtnetlink.FamilyOf(k.Dst))
	if err != nil {
		return fmt.Errorf("read addresses of link %s: %w", plain.Text(l.Name), err)
	}
	r.result.Unknown = append(r.result.Unknown, Ask{Dst: k.Dst, Dev: l.Name, Src: sourceFor(k.Dst, own), LLAddr: HardwareAddr(l.LLAddr)})
	return nil
}

// sources lists addresses of a link that questions may come from, which are those
// that are its own for sure.
func (r *resolver) sources(ctx context.Context, index int, family uint8) (own []rtnetlink.Addr, err error) {
	err = r.conn.Addrs(ctx, family, index, rtnetlink.NSIDNone, func() { own = nil }, func(a rtnetlink.Addr) {
		if a.Index == index && !a.Tentative() && !a.Taken() && len(own) < sourcesAtMost {
			own = append(own, a)
		}
	})
	if errors.Is(err, unix.ENODEV) { // removed meanwhile
		return nil, nil
	}
	return own, err
}

// sourceFor chooses the address that fits a gateway best: one whose subnet the
// gateway is in, which for a link-local gateway is a link-local one; then one of
// global scope; then any.
func sourceFor(dst netip.Addr, own []rtnetlink.Addr) (best netip.Addr) {
	const none, anyScope, global, onLink = 0, 1, 2, 3
	rank := none
	for _, a := range own {
		fits := anyScope
		switch {
		case a.Subnet.Contains(dst):
			fits = onLink
		case a.Global():
			fits = global
		}
		if fits > rank {
			best, rank = a.IP, fits
		}
	}
	return best
}
