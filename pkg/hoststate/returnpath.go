// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

// Entry is a permanent entry on the host's end of a pod's link, by which the host
// answers the pod without asking for it.
type Entry struct {
	Dst    netip.Addr            `json:"dst"`
	Dev    string                `json:"dev"`   // the host's end
	Index  int                   `json:"index"` // its number
	LLAddr neighbor.HardwareAddr `json:"lladdr"`
	// Source is "existing" for an entry that somebody else made, and that says the
	// same; such a one is never removed. All others are ours, of source "peer".
	Source neighbor.Source `json:"source"`
}

// SetReturnPath makes the host's ends of a pod's links know the pod's addresses. It
// writes nothing where the end is the port of a bridge or not on the host, where a
// correct permanent entry stands, and where somebody's permanent entry says
// something else: that is an error beside the others' outcome. known are the
// entries that it returned before for the same pod; those that are not of the pod's
// addresses any more are removed.
func SetReturnPath(ctx context.Context, addresses []Address, known []Entry) (entries []Entry, err error) {
	h, err := openHost()
	if err != nil {
		return known, fmt.Errorf("set the way back: %w", err)
	}
	defer h.close()
	links, err := h.links(ctx)
	if err != nil {
		return known, fmt.Errorf("set the way back: %w", err)
	}
	var ips []netip.Addr
	for _, a := range addresses {
		ips = append(ips, a.Addr)
	}
	standing, err := h.entries(ctx, ips)
	if err != nil {
		return known, fmt.Errorf("set the way back: %w", err)
	}
	var wanted []Entry
	for _, a := range addresses {
		end, ok := links[a.End]
		if !ok || !end.Pair() || !end.HasNSID || end.Master != 0 && links[end.Master].Kind != rtnetlink.KindVRF || !a.LLAddr.IsUnicast() {
			continue
		}
		wanted = append(wanted, Entry{Dst: a.Addr, Dev: end.Name, Index: end.Index, LLAddr: a.LLAddr, Source: neighbor.SourcePeer})
	}
	_, releaseErr := ReleaseReturnPath(ctx, slices.DeleteFunc(slices.Clone(known), func(e Entry) bool {
		return slices.ContainsFunc(wanted, e.same)
	}))
	var errs []error
	err = inOwn(func(table *neighbor.Table) error {
		for _, w := range wanted {
			if foreign(standing, w) && !slices.Contains(known, w) {
				w.Source = neighbor.SourceExisting
			} else if err := table.Pin(ctx, []neighbor.Neighbor{w.neighbor()}); err != nil {
				errs = append(errs, err)
				if errors.Is(err, neighbor.ErrForeign) || !slices.Contains(known, w) {
					continue
				}
			}
			entries = append(entries, w)
		}
		return nil
	})
	if err = errors.Join(err, releaseErr, errors.Join(errs...)); err != nil {
		return entries, fmt.Errorf("set the way back: %w", err)
	}
	return entries, nil
}

// foreign tells whether somebody else's permanent entry says what is wanted.
func foreign(standing []rtnetlink.Entry, w Entry) bool {
	return slices.ContainsFunc(standing, func(e rtnetlink.Entry) bool {
		return e.Dst == w.Dst && e.Index == w.Index && e.Permanent() && macOf(e) == w.LLAddr && e.Protocol != neighbor.Protocol
	})
}

// same tells whether both are one entry with one address.
func (e Entry) same(o Entry) bool {
	return e.Dst == o.Dst && e.Index == o.Index && e.Dev == o.Dev && e.LLAddr == o.LLAddr
}

func (e Entry) neighbor() neighbor.Neighbor {
	family := neighbor.FamilyInet6
	if e.Dst.Is4() {
		family = neighbor.FamilyInet
	}
	return neighbor.Neighbor{Dst: e.Dst, Dev: e.Dev, LLAddr: e.LLAddr, Family: family, Source: e.Source}
}

// ReleaseReturnPath removes entries that SetReturnPath wrote, where they are still
// what it wrote and their link is still the same. It returns those it removed.
func ReleaseReturnPath(ctx context.Context, entries []Entry) (released []Entry, err error) {
	ours := slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return e.Source == neighbor.SourceExisting })
	if len(ours) == 0 {
		return nil, nil
	}
	h, err := openHost()
	if err != nil {
		return nil, fmt.Errorf("take the way back away: %w", err)
	}
	defer h.close()
	links, err := h.links(ctx)
	if err != nil {
		return nil, fmt.Errorf("take the way back away: %w", err)
	}
	var errs []error
	err = inOwn(func(table *neighbor.Table) error {
		for _, e := range ours {
			if links[e.Index].Name != e.Dev {
				continue // gone, with its entries
			}
			gone, err := table.Release(ctx, []neighbor.Neighbor{e.neighbor()})
			if len(gone) > 0 {
				released = append(released, e)
			}
			errs = append(errs, err)
		}
		return nil
	})
	if err = errors.Join(err, errors.Join(errs...)); err != nil {
		return released, fmt.Errorf("take the way back away: %w", err)
	}
	return released, nil
}

// inOwn gives fn the neighbor tables of this process's own namespace, which is the
// host's: the one place where neighpin writes to them.
func inOwn(fn func(*neighbor.Table) error) error {
	self, err := netns.Self()
	if err != nil {
		return err
	}
	defer func() { _ = self.Close() }()
	table, err := neighbor.Open(self)
	if err != nil {
		return err
	}
	defer func() { _ = table.Close() }()
	return fn(table)
}
