// SPDX-License-Identifier: Apache-2.0

// Package view reads what a network namespace holds, for people who look for a
// fault. Names and words are those of `ip -json`. It decides nothing and changes
// nothing, and nothing rests on it.
package view

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
	"github.com/neighpin/neighpin/pkg/netns"
)

// Contents is what a namespace holds.
type Contents struct {
	Links     []Link  `json:"links"`
	Addresses []Addr  `json:"addresses"`
	Routes    []Route `json:"routes"`
	Neighbors []Entry `json:"neighbors"`
	// Cut tells that there is more than the limit of something.
	Cut bool `json:"cut,omitempty"`
}

// Link is a link.
type Link struct {
	Index  int    `json:"ifindex"`
	Name   string `json:"ifname"`
	Kind   string `json:"kind,omitempty"`
	LLAddr string `json:"address,omitempty"`
	Up     bool   `json:"up"`
	// Master is the number of the link that it is a port of.
	Master int `json:"master,omitempty"`
	// Other is the number of the link's other end, and NSID the number of the
	// namespace that it is in, if another.
	Other int    `json:"link_index,omitempty"`
	NSID  *int32 `json:"link_netnsid,omitempty"`
}

// Addr is an IP address of a link.
type Addr struct {
	Dev  string       `json:"dev"`
	Addr netip.Prefix `json:"local"`
}

// Route is one hop of a route.
type Route struct {
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

// Entry is an entry of a neighbor table.
type Entry struct {
	Dst    netip.Addr `json:"dst"`
	Dev    string     `json:"dev"`
	LLAddr string     `json:"lladdr,omitempty"`
	State  []string   `json:"state"`
	// Protocol is the mark of who made it; neighpin's is 177 (neighbor.Protocol).
	Protocol uint8 `json:"protocol,omitempty"`
}

// Namespace reads what the namespace at path holds, at most limit of each kind, and
// tells its cookie, by which the kernel knows it. Local and broadcast routes are left
// out, and so is what the kernel keeps for itself. The host's namespaces are refused;
// for errors of path see netns.Open.
func Namespace(ctx context.Context, host *netns.Host, path string, limit int) (c Contents, cookie uint64, err error) {
	fd, cookie, err := host.Socket(path, rtnetlink.OpenSocket)
	if err != nil {
		return Contents{}, 0, err
	}
	conn, err := rtnetlink.New(fd)
	if err != nil {
		return Contents{}, 0, fmt.Errorf("open %s: %w", plain.Text(path), err)
	}
	defer conn.Close()
	r := reading{conn: conn, limit: limit, names: make(map[int]string)}
	for _, part := range []func(context.Context) error{r.links, r.addresses, r.routes, r.entries} {
		if err := part(ctx); err != nil {
			return r.out, cookie, fmt.Errorf("read %s: %w", plain.Text(path), err)
		}
	}
	return r.out, cookie, nil
}

// Links reads links of this process's own namespace by their numbers, and returns
// those that are there. The error names the others.
func Links(ctx context.Context, indices []int) (links []Link, err error) {
	conn, err := rtnetlink.Dial()
	if err != nil {
		return nil, fmt.Errorf("read the host's links: %w", err)
	}
	defer conn.Close()
	var errs []error
	for _, index := range indices {
		l, err := conn.Link(ctx, index, rtnetlink.NSIDNone)
		if err != nil {
			errs = append(errs, fmt.Errorf("read the host's link %d: %w", index, err))
			continue
		}
		links = append(links, shown(l))
	}
	return links, errors.Join(errs...)
}

func shown(l rtnetlink.Link) Link {
	s := Link{Index: l.Index, Name: l.Name, Kind: l.Kind, LLAddr: l.LLAddr, Up: l.Up(), Master: l.Master, Other: l.Other}
	if l.HasNSID {
		s.NSID = &l.NSID
	}
	return s
}

// reading collects the contents of one namespace.
type reading struct {
	conn  *rtnetlink.Conn
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
	return r.conn.Links(ctx, rtnetlink.NSIDNone, func() { clear(r.names); r.out.Links = nil }, func(l rtnetlink.Link) {
		r.names[l.Index] = l.Name
		put(r, &r.out.Links, shown(l))
	})
}

// perFamily asks for both; a kernel without IPv6 refuses the second.
func (r *reading) perFamily(ask func(family uint8) error) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if err := ask(family); err != nil && !rtnetlink.NoFamily(err) {
			return err
		}
	}
	return nil
}

func (r *reading) addresses(ctx context.Context) error {
	return r.perFamily(func(family uint8) error {
		before := r.out.Addresses
		return r.conn.Addrs(ctx, family, 0, rtnetlink.NSIDNone, func() { r.out.Addresses = before }, func(a rtnetlink.Addr) {
			put(r, &r.out.Addresses, Addr{Dev: r.names[a.Index], Addr: netip.PrefixFrom(a.IP, a.Subnet.Bits())})
		})
	})
}

func (r *reading) routes(ctx context.Context) error {
	return r.perFamily(func(family uint8) error {
		before := r.out.Routes
		return r.conn.Routes(ctx, family, func() { r.out.Routes = before }, r.route)
	})
}

func (r *reading) route(route rtnetlink.Route) {
	if !route.Unicast || route.Cloned {
		return
	}
	dst := "default"
	if !route.Default {
		dst = route.Dst.String()
	}
	if len(route.Hops) == 0 {
		route.Hops = []rtnetlink.Hop{{}} // it names a nexthop object only
	}
	for _, h := range route.Hops {
		put(r, &r.out.Routes, Route{Dst: dst, Gateway: h.Gateway, Dev: r.names[h.Index], Table: route.Table,
			Metric: route.Metric, Nexthop: route.Nexthop, Dead: h.Dead})
	}
}

func (r *reading) entries(ctx context.Context) error {
	return r.perFamily(func(family uint8) error {
		before := r.out.Neighbors
		return r.conn.Entries(ctx, family, func() { r.out.Neighbors = before }, func(e rtnetlink.Entry) {
			if e.Dst.IsValid() && e.State != unix.NUD_NOARP {
				put(r, &r.out.Neighbors, Entry{Dst: e.Dst, Dev: r.names[e.Index], LLAddr: e.LLAddr, State: e.States(), Protocol: e.Protocol})
			}
		})
	})
}
