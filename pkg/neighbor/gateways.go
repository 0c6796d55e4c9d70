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
)

// How much a gateway is worth when there are more than the limit. A sandbox's
// way out must not be lost to a table full of other routes.
const (
	rankMainDefault = iota // a default route in the main table
	rankDefault            // one in another table
	rankOther
)

func (r route) rank() int {
	switch {
	case !r.isDefault:
		return rankOther
	case r.table != unix.RT_TABLE_MAIN:
		return rankDefault
	}
	return rankMainDefault
}

// ranked is a set of at most limit members, of which it keeps the best. What it
// does with each more is bounded by the limit too.
type ranked[K comparable] struct {
	limit   int
	rank    map[K]int
	dropped bool // something did not fit
}

func newRanked[K comparable](limit int) *ranked[K] {
	return &ranked[K]{limit: limit, rank: make(map[K]int)}
}

func (r *ranked[K]) add(k K, rank int) {
	if old, ok := r.rank[k]; ok {
		r.rank[k] = min(old, rank)
		return
	}
	if len(r.rank) >= r.limit {
		r.dropped = true
		worst, found := k, false
		worstRank := rank
		for other, otherRank := range r.rank {
			if otherRank > worstRank {
				worst, worstRank, found = other, otherRank, true
			}
		}
		if !found {
			return
		}
		delete(r.rank, worst)
	}
	r.rank[k] = rank
}

// merge adds what the other holds.
func (r *ranked[K]) merge(o *ranked[K]) {
	r.dropped = r.dropped || o.dropped
	for k, rank := range o.rank {
		r.add(k, rank)
	}
}

// found is what the routes of one family say.
type found struct {
	gateways *ranked[key]
	nexthops *ranked[uint32] // objects that stand for gateways not named in the route
}

func newFound(limit int) found {
	return found{gateways: newRanked[key](limit), nexthops: newRanked[uint32](limit)}
}

// add takes the gateways of one route.
func (f found) add(r route) {
	if !r.usable {
		return
	}
	named := false
	for _, h := range r.hops {
		named = f.addHop(h, r.rank()) || named
	}
	// With net.ipv4.nexthop_compat_mode=0 the kernel names only the object
	// (net/ipv4/fib_semantics.c, fib_dump_info; net/ipv6/route.c, rt6_fill_node).
	if r.nexthop != 0 && !named {
		f.nexthops.add(r.nexthop, r.rank())
	}
}

// addHop takes one hop and tells whether it names a gateway.
func (f found) addHop(h hop, rank int) bool {
	if !h.gateway.IsValid() || h.gateway.IsUnspecified() || h.index <= 0 {
		return false
	}
	if !h.dead {
		f.gateways.add(key{dst: h.gateway, index: h.index}, rank)
	}
	return true
}

// gateways reads the gateways of every route in every table. At most limit are
// returned, the more important first to stay; dropped says that there are more.
// The kernel's answer is worked off as it comes, so that a table of a million
// routes costs time but no memory.
func (t *Table) gateways(ctx context.Context, limit int) (list []key, dropped bool, err error) {
	all := newFound(limit)
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		var f found
		err := t.conn.dump(ctx, routesRequest(family), func() { f = newFound(limit) },
			func(body []byte) error {
				r, err := parseRoute(body)
				if err == nil {
					f.add(r)
				}
				return err
			})
		// A kernel without IPv6 answers for another family, or refuses.
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EAFNOSUPPORT) {
			return nil, false, fmt.Errorf("read routes: %w", err)
		}
		all.gateways.merge(f.gateways)
		all.nexthops.merge(f.nexthops)
	}
	if err := t.followNexthops(ctx, all); err != nil {
		return nil, false, err
	}
	for k := range all.gateways.rank {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.index, b.index), a.dst.Compare(b.dst))
	})
	return list, all.gateways.dropped || all.nexthops.dropped, nil
}

// followNexthops reads the nexthop objects that routes name. Members of a group
// are never groups themselves (net/ipv4/nexthop.c, valid_group_nh).
func (t *Table) followNexthops(ctx context.Context, f found) error {
	members := newRanked[uint32](f.nexthops.limit)
	for id, rank := range f.nexthops.rank {
		n, err := t.nexthop(ctx, id)
		if err != nil {
			return err
		}
		if n.usable {
			f.addHop(n.hop, rank)
		}
		for _, member := range n.group {
			members.add(member, rank)
		}
	}
	for id, rank := range members.rank {
		n, err := t.nexthop(ctx, id)
		if err != nil {
			return err
		}
		if n.usable {
			f.addHop(n.hop, rank)
		}
	}
	f.nexthops.dropped = f.nexthops.dropped || members.dropped
	return nil
}

// nexthop reads one object. One that is gone meanwhile gives one of no use; its
// routes went with it.
func (t *Table) nexthop(ctx context.Context, id uint32) (n nexthop, err error) {
	n, err = get(ctx, t.conn, nexthopRequest(id), parseNexthop)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nexthop{}, nil
	case err != nil:
		return nexthop{}, fmt.Errorf("read nexthop object %d: %w", id, err)
	}
	return n, nil
}

// isTarget tells whether an address can be that of one station.
func isTarget(addr netip.Addr) bool {
	return addr.IsValid() && !addr.IsUnspecified() && !addr.IsMulticast() && !addr.IsLoopback() &&
		addr != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
