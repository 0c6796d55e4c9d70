// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// How much a gateway is worth when there are more than the limit. A sandbox's
// way out must not be lost to a table full of other routes.
const (
	rankMainDefault = iota // a default route in the main table
	rankDefault            // one in another table
	rankOther
)

// rankOf ranks a route's gateways.
func rankOf(r rtnetlink.Route) int {
	switch {
	case !r.Default:
		return rankOther
	case r.Table != unix.RT_TABLE_MAIN:
		return rankDefault
	}
	return rankMainDefault
}

// ranked is a set of at most limit members, of which it keeps the best. What it
// does with each more is bounded by the limit too.
type ranked[K comparable] struct {
	limit   int
	members []member[K]
	dropped bool // something did not fit
}

type member[K comparable] struct {
	key  K
	rank int
}

func (r *ranked[K]) add(k K, rank int) {
	worst := -1
	for i, m := range r.members {
		if m.key == k {
			r.members[i].rank = min(m.rank, rank)
			return
		}
		if m.rank > rank && (worst < 0 || m.rank > r.members[worst].rank) {
			worst = i
		}
	}
	if len(r.members) < r.limit {
		r.members = append(r.members, member[K]{k, rank})
		return
	}
	r.dropped = true
	if worst >= 0 {
		r.members[worst] = member[K]{k, rank}
	}
}

// found is what routes say.
type found struct {
	gateways ranked[key]
	nexthops ranked[uint32] // objects that stand for gateways not named in the route
}

func newFound(limit int) *found {
	return &found{gateways: ranked[key]{limit: limit}, nexthops: ranked[uint32]{limit: limit}}
}

// add takes the gateways of one route.
func (f *found) add(r rtnetlink.Route) {
	if !r.Unicast || r.Cloned {
		return
	}
	named := false
	for _, h := range r.Hops {
		named = f.addHop(h, rankOf(r)) || named
	}
	// With net.ipv4.nexthop_compat_mode=0 the kernel names only the object
	// (net/ipv4/fib_semantics.c, fib_dump_info; net/ipv6/route.c, rt6_fill_node).
	if r.Nexthop != 0 && !named {
		f.nexthops.add(r.Nexthop, rankOf(r))
	}
}

// addHop takes one hop and tells whether it names a gateway.
func (f *found) addHop(h rtnetlink.Hop, rank int) bool {
	if !h.Gateway.IsValid() || h.Gateway.IsUnspecified() || h.Index <= 0 {
		return false
	}
	if !h.Dead {
		f.gateways.add(key{Dst: h.Gateway, Index: h.Index}, rank)
	}
	return true
}

// gateways reads the gateways of every route in every table. At most limit are
// returned, the more important first to stay; dropped says that there are more.
// The kernel's answer is worked off as it comes, so that a table of a million
// routes costs time but no memory.
func (t *Table) gateways(ctx context.Context, limit int) (list []key, dropped bool, err error) {
	all, err := t.routes(ctx, limit, unix.AF_UNSPEC)
	if errno := unix.Errno(0); errors.As(err, &errno) && !errors.Is(err, rtnetlink.ErrTooLong) {
		// Some family, which need not be one of ours, refuses to be read. Where
		// something is too long, the kernel would now leave it out, and what
		// follows, and not say so (net/core/rtnetlink.c, rtnl_dumpit).
		all, err = t.routes(ctx, limit, unix.AF_INET, unix.AF_INET6)
	}
	if err != nil {
		return nil, false, fmt.Errorf("read routes: %w", err)
	}
	if err := t.followNexthops(ctx, all); err != nil {
		return nil, false, err
	}
	for _, m := range all.gateways.members {
		list = append(list, m.key)
	}
	slices.SortFunc(list, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), a.Dst.Compare(b.Dst))
	})
	return list, all.gateways.dropped || all.nexthops.dropped, nil
}

// routes reads the routes of families. AF_UNSPEC stands for all that the kernel
// has, others than IP among them (net/core/rtnetlink.c, rtnl_dump_all).
func (t *Table) routes(ctx context.Context, limit int, families ...uint8) (*found, error) {
	f := newFound(limit)
	for _, family := range families {
		before := f.clone()
		err := t.conn.Routes(ctx, family, func() { f = before.clone() }, func(r rtnetlink.Route) { f.add(r) })
		// A kernel without IPv6 answers for another family, or refuses.
		if err != nil && (family == unix.AF_UNSPEC || !rtnetlink.NoFamily(err)) {
			return nil, err
		}
	}
	return f, nil
}

func (f *found) clone() *found {
	c := *f
	c.gateways.members, c.nexthops.members = slices.Clone(f.gateways.members), slices.Clone(f.nexthops.members)
	return &c
}

// followNexthops reads the nexthop objects that routes name. Members of a group
// are never groups themselves (net/ipv4/nexthop.c, valid_group_nh).
func (t *Table) followNexthops(ctx context.Context, f *found) error {
	members := ranked[uint32]{limit: f.nexthops.limit}
	for _, m := range f.nexthops.members {
		n, err := t.nexthop(ctx, m.key)
		if err != nil {
			return err
		}
		if n.Usable {
			f.addHop(n.Hop, m.rank)
		}
		for _, id := range n.Group {
			members.add(id, m.rank)
		}
	}
	for _, m := range members.members {
		n, err := t.nexthop(ctx, m.key)
		if err != nil {
			return err
		}
		if n.Usable {
			f.addHop(n.Hop, m.rank)
		}
	}
	f.nexthops.dropped = f.nexthops.dropped || members.dropped
	return nil
}

// nexthop reads one object. One that is gone meanwhile gives one of no use; its
// routes went with it.
func (t *Table) nexthop(ctx context.Context, id uint32) (n rtnetlink.Nexthop, err error) {
	n, err = t.conn.Nexthop(ctx, id)
	switch {
	case errors.Is(err, unix.ENOENT):
		return rtnetlink.Nexthop{}, nil
	case err != nil:
		return rtnetlink.Nexthop{}, fmt.Errorf("read nexthop object %d: %w", id, err)
	}
	return n, nil
}

// isTarget tells whether an address can be that of one station.
func isTarget(addr netip.Addr) bool {
	return addr.IsValid() && !addr.IsUnspecified() && !addr.IsMulticast() && !addr.IsLoopback() &&
		addr != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
