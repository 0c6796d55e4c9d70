// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Contents is what a namespace holds, for people who look for a fault. Names and
// words are those of `ip -json`. Nothing of the engine rests on it.
type Contents struct {
	Links     []ShownLink  `json:"links"`
	Addresses []ShownAddr  `json:"addresses"`
	Routes    []ShownRoute `json:"routes"`
	Neighbors []ShownEntry `json:"neighbors"`
	// Cut tells that there is more than the limit of something.
	Cut bool `json:"cut,omitempty"`
}

// ShownLink is a link.
type ShownLink struct {
	Index  int          `json:"ifindex"`
	Name   string       `json:"ifname"`
	Kind   string       `json:"kind,omitempty"`
	LLAddr HardwareAddr `json:"address,omitempty"`
	Up     bool         `json:"up"`
	// Master is the number of the link that it is a port of.
	Master int `json:"master,omitempty"`
	// Other is the number of the link's other end, and NSID the number of the
	// namespace that it is in, if another.
	Other int    `json:"link_index,omitempty"`
	NSID  *int32 `json:"link_netnsid,omitempty"`
}

// ShownAddr is an IP address of a link.
type ShownAddr struct {
	Dev  string       `json:"dev"`
	Addr netip.Prefix `json:"local"`
}

// ShownRoute is one hop of a route.
type ShownRoute struct {
	// Dst is the destination, or "default".
	Dst     string     `json:"dst"`
	Gateway netip.Addr `json:"gateway,omitzero"`
	Dev     string     `json:"dev,omitempty"`
	Table   uint32     `json:"table"`
	Metric  uint32     `json:"metric,omitempty"`
	// Nexthop is the number of a nexthop object, where the route names one.
	Nexthop uint32 `json:"nhid,omitempty"`
	// Dead tells that the kernel does not use it.
	Dead bool `json:"dead,omitempty"`
}

// ShownEntry is an entry of a neighbor table.
type ShownEntry struct {
	Dst    netip.Addr   `json:"dst"`
	Dev    string       `json:"dev"`
	LLAddr HardwareAddr `json:"lladdr,omitempty"`
	State  []string     `json:"state"`
	// Protocol is the mark of who made it; neighpin's is [Protocol].
	Protocol uint8 `json:"protocol,omitempty"`
}

// Contents reads what the namespace holds, at most limit of each kind. Local and
// broadcast routes are left out, and so is what the kernel keeps for itself.
func (t *Table) Contents(ctx context.Context, limit int) (Contents, error) {
	r := reading{conn: t.conn, limit: limit, names: make(map[int]string)}
	for _, part := range []func(context.Context) error{r.links, r.addresses, r.routes, r.entries} {
		if err := part(ctx); err != nil {
			return r.out, fmt.Errorf("read %s: %w", printable(t.path), err)
		}
	}
	return r.out, nil
}

// Link reads one link of the namespace by its number. The error wraps unix.ENODEV
// when there is none.
func (t *Table) Link(ctx context.Context, index int) (ShownLink, error) {
	l, err := t.conn.link(ctx, index, nsidNone)
	if err != nil {
		return ShownLink{}, fmt.Errorf("read link %d of %s: %w", index, printable(t.path), err)
	}
	return l.shown(), nil
}

func (l link) shown() ShownLink {
	s := ShownLink{Index: l.index, Name: l.name, Kind: l.kind, LLAddr: l.lladdr, Up: l.up(), Master: l.master, Other: l.other}
	if l.hasNSID {
		s.NSID = &l.nsid
	}
	return s
}

// reading collects the contents of one namespace.
type reading struct {
	conn  *conn
	limit int
	names map[int]string
	out   Contents
}

// put appends what is within the limit.
func put[T any](r *reading, list *[]T, item T) {
	if len(*list) >= r.limit {
		r.out.Cut = true
		return
	}
	*list = append(*list, item)
}

func (r *reading) links(ctx context.Context) error {
	return r.conn.dump(ctx, linksRequest(nsidNone), func() { clear(r.names); r.out.Links = nil }, func(body []byte) error {
		l, err := parseLink(body)
		if err == nil {
			r.names[l.index] = l.name
			put(r, &r.out.Links, l.shown())
		}
		return err
	})
}

// perFamily asks for both; a kernel without IPv6 refuses the second.
func (r *reading) perFamily(ask func(family uint8) error) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if err := ask(family); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EAFNOSUPPORT) {
			return err
		}
	}
	return nil
}

func (r *reading) addresses(ctx context.Context) error {
	return r.perFamily(func(family uint8) error {
		before := r.out.Addresses
		return r.conn.dump(ctx, addrsRequest(family, 0, nsidNone), func() { r.out.Addresses = before }, func(body []byte) error {
			a, err := parseAddr(body)
			if err == nil {
				put(r, &r.out.Addresses, ShownAddr{Dev: r.names[a.index], Addr: netip.PrefixFrom(a.ip, a.subnet.Bits())})
			}
			return err
		})
	})
}

func (r *reading) routes(ctx context.Context) error {
	return r.perFamily(func(family uint8) error {
		before := r.out.Routes
		return r.conn.dump(ctx, routesRequest(family), func() { r.out.Routes = before }, func(body []byte) error {
			parsed, err := parseRoute(body)
			if err != nil || !parsed.usable {
				return err
			}
			dst, metric, err := routeKey(body)
			if err != nil {
				return err
			}
			if len(parsed.hops) == 0 {
				parsed.hops = []hop{{}} // it names a nexthop object only
			}
			for _, h := range parsed.hops {
				put(r, &r.out.Routes, ShownRoute{Dst: dst, Gateway: h.gateway, Dev: r.names[h.index], Table: parsed.table,
					Metric: metric, Nexthop: parsed.nexthop, Dead: h.dead})
			}
			return nil
		})
	})
}

// routeKey reads what parseRoute has no use for: the destination and the metric.
func routeKey(body []byte) (dst string, metric uint32, err error) {
	a := readAttrs(body, unix.SizeofRtMsg)
	var addr netip.Addr
	for a.next() {
		switch a.kind {
		case unix.RTA_PRIORITY:
			metric = a.u32()
		case unix.RTA_DST:
			addr = a.addr()
		}
	}
	if a.err != nil {
		return "", 0, a.err
	}
	if body[1] == 0 {
		return "default", metric, nil
	}
	prefix, err := addr.Prefix(int(body[1]))
	if err != nil {
		return "", 0, errMalformed
	}
	return prefix.String(), metric, nil
}

func (r *reading) entries(ctx context.Context) error {
	return r.perFamily(func(family uint8) error {
		before := r.out.Neighbors
		return r.conn.dump(ctx, entriesRequest(family), func() { r.out.Neighbors = before }, func(body []byte) error {
			e, err := parseEntry(body)
			if err == nil && e.dst.IsValid() && e.state != unix.NUD_NOARP {
				put(r, &r.out.Neighbors, ShownEntry{Dst: e.dst, Dev: r.names[e.index], LLAddr: e.lladdr, State: stateNames(e.state), Protocol: e.protocol})
			}
			return err
		})
	})
}
