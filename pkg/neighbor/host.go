// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Host reads what the namespace of this process knows about addresses of pods:
// its own neighbor entries, links and ways. It decides nothing, and changes
// nothing but by Remove. Its methods may be called from several goroutines.
type Host struct{ conn *conn }

// OpenHost opens the namespace that the calling thread is in, which for every
// thread of this process is the process's own.
func OpenHost() (*Host, error) {
	c, err := dial()
	if err != nil {
		return nil, fmt.Errorf("open the host's tables: %w", err)
	}
	return &Host{conn: c}, nil
}

// Close ends calls that wait for the kernel. Closing again does nothing.
func (h *Host) Close() error {
	h.conn.Close()
	return nil
}

// HostEntry is a neighbor entry of the host.
type HostEntry struct {
	Dst      netip.Addr
	Index    int // of the link
	LLAddr   HardwareAddr
	State    []string // in the words of `ip -json neigh`
	Protocol uint8    // NDA_PROTOCOL; zero when nobody has named one

	permanent bool
}

// Permanent tells whether the entry neither ages nor learns.
func (e HostEntry) Permanent() bool { return e.permanent }

// Entries lists the entries for some addresses, on every link, that have a
// link-layer address which is in use.
func (h *Host) Entries(ctx context.Context, of []netip.Addr) (list []HostEntry, err error) {
	err = h.conn.dump(ctx, entriesRequest(unix.AF_UNSPEC), func() { list = nil }, func(body []byte) error {
		e, err := parseEntry(body)
		if err == nil && slices.Contains(of, e.dst) && e.valid() && e.lladdr.IsUnicast() {
			list = append(list, e.ofHost())
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the host's neighbors: %w", err)
	}
	return list, nil
}

func (e entry) ofHost() HostEntry {
	return HostEntry{Dst: e.dst, Index: e.index, LLAddr: e.lladdr, State: stateNames(e.state), Protocol: e.protocol,
		permanent: e.permanent()}
}

// Remove removes an entry if it is still what it was when it was listed: of the
// same address, and permanent or not as it was.
func (h *Host) Remove(ctx context.Context, was HostEntry) (bool, error) {
	now, err := h.conn.entry(ctx, was.Dst, was.Index)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
		return false, nil // with its link
	}
	if err != nil || now.lladdr != was.LLAddr || now.permanent() != was.permanent {
		return false, err
	}
	err = h.conn.removeEntry(ctx, was.Dst, was.Index)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil, err
}

// HostLink is a link of the host.
type HostLink struct {
	Index  int
	Name   string
	Kind   string // "veth", "bridge", …; empty for hardware
	LLAddr HardwareAddr
	Master int  // number of the link that it is a port of, or 0
	Other  int  // what it rests on: for a VLAN the link below, for a veth its other end
	Near   bool // Other is in the same namespace
}

// Pair tells whether the link is one end of a pair.
func (l HostLink) Pair() bool { return l.Kind == kindVeth || l.Kind == kindNetkit }

// Links lists the host's links, by their numbers.
func (h *Host) Links(ctx context.Context) (map[int]HostLink, error) {
	var links map[int]HostLink
	err := h.conn.dump(ctx, linksRequest(nsidNone), func() { links = make(map[int]HostLink) }, func(body []byte) error {
		l, err := parseLink(body)
		if err == nil {
			links[l.index] = HostLink{Index: l.index, Name: l.name, Kind: l.kind, LLAddr: l.lladdr, Master: l.master, Other: l.other, Near: !l.hasNSID}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the host's links: %w", err)
	}
	return links, nil
}

// RouteTo is the link over which the host reaches an address directly; zero when
// it reaches it by way of a router, or not, or is at that address itself.
func (h *Host) RouteTo(ctx context.Context, dst netip.Addr) (index int, err error) {
	r := routesRequest(familyNumber(dst)).addr(unix.RTA_DST, dst)
	r.body()[1] = uint8(dst.BitLen()) // the length of dst
	index, err = get(ctx, h.conn, r, parseWay)
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL):
		return 0, nil // no route, or one that says so (include/net/fib_rules.h: blackhole is EINVAL)
	case err != nil:
		return 0, fmt.Errorf("find the host's way to %s: %w", dst, err)
	}
	return index, nil
}

// parseWay reads the route that the kernel would take, if the destination is on its
// link; 0 if not.
func parseWay(body []byte) (int, error) {
	r, err := parseRoute(body)
	if err != nil || body[7] != unix.RTN_UNICAST || len(r.hops) != 1 || r.hops[0].gateway.IsValid() {
		return 0, err
	}
	return r.hops[0].index, nil
}

// Claims tells which of some link-layer addresses somebody has, with a word on who:
// a link of the host or of a namespace that has a number there, or a forwarding
// entry of a bridge or tunnel.
func (h *Host) Claims(ctx context.Context, of []HardwareAddr) (map[HardwareAddr]string, error) {
	claims := make(map[HardwareAddr]string)
	claim := func(a HardwareAddr, who string) {
		if slices.Contains(of, a) && claims[a] == "" {
			claims[a] = who
		}
	}
	links := func(nsid int32, who string) error {
		return h.conn.dump(ctx, linksRequest(nsid), func() {}, func(body []byte) error {
			l, err := parseLink(body)
			claim(l.lladdr, who+printable(l.name))
			return err
		})
	}
	if err := links(nsidNone, "link "); err != nil {
		return nil, fmt.Errorf("list the host's links: %w", err)
	}
	err := h.conn.dump(ctx, entriesRequest(unix.AF_BRIDGE), func() {}, func(body []byte) error {
		e, err := parseEntry(body)
		claim(e.lladdr, fmt.Sprintf("a forwarding entry of link %d", e.index))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the host's forwarding entries: %w", err)
	}
	numbers, err := h.namespaces(ctx)
	if err != nil {
		return nil, err
	}
	for _, nsid := range numbers {
		if err := links(nsid, fmt.Sprintf("namespace %d's link ", nsid)); err != nil && !gone(err) {
			return nil, fmt.Errorf("list the links of namespace %d: %w", nsid, err)
		}
	}
	return claims, nil
}

// namespaces lists the numbers that the host has for others.
func (h *Host) namespaces(ctx context.Context) (numbers []int32, err error) {
	err = h.conn.dump(ctx, nsidRequest(unix.RTM_GETNSID), func() { numbers = nil }, func(body []byte) error {
		id, err := parseNSID(body)
		if err == nil && id >= 0 {
			numbers = append(numbers, id)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the host's numbers of namespaces: %w", err)
	}
	return numbers, nil
}
