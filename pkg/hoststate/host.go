// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// host reads what the namespace of this process knows about addresses of pods:
// its own neighbor entries, links and ways. It decides nothing, and changes
// nothing but by remove.
type host struct{ conn *rtnetlink.Conn }

// openHost opens the namespace that the calling thread is in, which for every
// thread of this process is the process's own.
func openHost() (*host, error) {
	c, err := rtnetlink.Dial()
	if err != nil {
		return nil, fmt.Errorf("open the host's tables: %w", err)
	}
	return &host{conn: c}, nil
}

func (h *host) close() { h.conn.Close() }

// entries lists the entries for some addresses, on every link, that have a
// link-layer address which is in use.
func (h *host) entries(ctx context.Context, of []netip.Addr) (list []rtnetlink.Entry, err error) {
	err = h.conn.Entries(ctx, unix.AF_UNSPEC, func() { list = nil }, func(e rtnetlink.Entry) {
		if slices.Contains(of, e.Dst) && e.Valid() && macOf(e).IsUnicast() {
			list = append(list, e)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list the host's neighbors: %w", err)
	}
	return list, nil
}

// macOf is the address that an entry says.
func macOf(e rtnetlink.Entry) neighbor.HardwareAddr { return neighbor.HardwareAddr(e.LLAddr) }

// remove removes an entry if it is still what it was when it was listed: of the
// same address, and permanent or not as it was.
func (h *host) remove(ctx context.Context, was rtnetlink.Entry) (bool, error) {
	now, err := h.conn.Entry(ctx, was.Key)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
		return false, nil // with its link
	}
	if err != nil || now.LLAddr != was.LLAddr || now.Permanent() != was.Permanent() {
		return false, err
	}
	err = h.conn.RemoveEntry(ctx, was.Key)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil, err
}

// links lists the host's links, by their numbers.
func (h *host) links(ctx context.Context) (links map[int]rtnetlink.Link, err error) {
	err = h.conn.Links(ctx, rtnetlink.NSIDNone, func() { links = make(map[int]rtnetlink.Link) }, func(l rtnetlink.Link) { links[l.Index] = l })
	if err != nil {
		return nil, fmt.Errorf("list the host's links: %w", err)
	}
	return links, nil
}

// routeTo is the link over which the host reaches an address directly; zero when
// it reaches it by way of a router, or not, or is at that address itself. It is the
// way of packets without a mark, ports and an incoming link, and of user 0, as which
// the kernel counts those that it forwards (include/net/sock.h, sock_net_uid). Rules
// that send others elsewhere (ip rule: fwmark, sport, dport, iif, uidrange) are not
// seen: where the pod is reached by these alone, another link or none is the way.
func (h *host) routeTo(ctx context.Context, dst netip.Addr) (index int, err error) {
	r, err := h.conn.RouteTo(ctx, dst)
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL):
		return 0, nil // no route, or one that says so (include/net/fib_rules.h: blackhole is EINVAL)
	case err != nil:
		return 0, fmt.Errorf("find the host's way to %s: %w", dst, err)
	case !r.Unicast || len(r.Hops) != 1 || r.Hops[0].Gateway.IsValid():
		return 0, nil
	}
	return r.Hops[0].Index, nil
}

// claims tells which of some link-layer addresses somebody has, with a word on who:
// a link of the host or of a namespace that has a number there, or a forwarding
// entry of a bridge or tunnel.
func (h *host) claims(ctx context.Context, of []neighbor.HardwareAddr) (map[neighbor.HardwareAddr]string, error) {
	claims := make(map[neighbor.HardwareAddr]string)
	claim := func(lladdr, who string) {
		if a := neighbor.HardwareAddr(lladdr); slices.Contains(of, a) && claims[a] == "" {
			claims[a] = who
		}
	}
	links := func(nsid int32, who string) error {
		return h.conn.Links(ctx, nsid, func() {}, func(l rtnetlink.Link) { claim(l.LLAddr, who+plain.Text(l.Name)) })
	}
	if err := links(rtnetlink.NSIDNone, "link "); err != nil {
		return nil, fmt.Errorf("list the host's links: %w", err)
	}
	err := h.conn.Entries(ctx, unix.AF_BRIDGE, func() {}, func(e rtnetlink.Entry) {
		claim(e.LLAddr, fmt.Sprintf("a forwarding entry of link %d", e.Index))
	})
	if err != nil {
		return nil, fmt.Errorf("list the host's forwarding entries: %w", err)
	}
	numbers, err := h.conn.NSIDs(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the host's numbers of namespaces: %w", err)
	}
	for _, nsid := range numbers {
		if err := links(nsid, fmt.Sprintf("namespace %d's link ", nsid)); err != nil && !rtnetlink.Gone(err) {
			return nil, fmt.Errorf("list the links of namespace %d: %w", nsid, err)
		}
	}
	return claims, nil
}
