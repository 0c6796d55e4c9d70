// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// rename gives a link that many further names, each as long as may be, which its
// messages list.
func rename(ns *nstest.NS, link string, names int) {
	lines := make([]string, names)
	for i := range lines {
		lines[i] = fmt.Sprintf("link property add dev %s altname a%s%d", link, strings.Repeat("x", 120), i)
	}
	ns.IP(lines...)
}

// A pod gives its link hundreds of names. What the kernel says of it is longer than
// any usual answer, alone or among others.
func TestLinkWithHundredsOfNames(t *testing.T) {
	for _, names := range []int{70, 200, 450} {
		t.Run(fmt.Sprint(names), func(t *testing.T) {
			_, pod := nstest.DualStackPair(t)
			rename(pod, "eth0", names)
			res := resolve(t, openTable(t, pod.NS))
			expect(t, res, gw4+"peer NONE", gw6+"peer NONE")
			tb := openTable(t, pod.NS)
			pin(t, tb, res.Neighbors) // which finds the link by its name
			res = resolve(t, tb, res.Neighbors...)
			expect(t, res, gw4+"peer PERMANENT", gw6+"peer PERMANENT")
			pod.IP("addr flush dev eth0 scope global", "route flush table all dev eth0")
			expect(t, resolve(t, openTable(t, pod.NS)), "handed over")
		})
	}
}

// spread adds a route to dst by way of many gateways, which come one after the
// other from first on.
func spread(t *testing.T, pod *nstest.NS, dst netip.Prefix, first netip.Addr, gateways int) {
	t.Helper()
	index, r := linkIndex(t, openTable(t, pod.NS), "eth0"), &netlink.Route{Dst: &net.IPNet{IP: dst.Addr().AsSlice(), Mask: net.CIDRMask(dst.Bits(), dst.Addr().BitLen())}}
	for gw := first; gateways > 0; gateways, gw = gateways-1, gw.Next() {
		r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: index, Gw: gw.AsSlice()})
	}
	handle, err := netlink.NewHandleAt(netns.NsHandle(pod.FD()))
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	if err := handle.RouteAdd(r); err != nil {
		t.Fatal(err)
	}
}

// A single route has so many gateways that no usual part of a dump can hold it.
// None is passed over in silence, and none of the routes behind it.
func TestRouteByWayOfManyGateways(t *testing.T) {
	first4, first6 := mustAddr("10.0.8.1"), mustAddr("fd00::8:1")
	for _, gateways := range []int{200, 290, 500, 900, 1100} {
		t.Run(fmt.Sprint(gateways), func(t *testing.T) {
			_, pod := nstest.Pair(t)
			pod.IP("addr add 10.0.0.2/16 dev eth0", "addr add fd00::2/64 dev eth0", "route add 198.18.0.0/15 via 10.0.0.1", "route add 2001:db8::/32 via fd00::1")
			spread(t, pod, netip.MustParsePrefix("192.0.2.0/24"), first4, gateways)
			spread(t, pod, netip.MustParsePrefix("100::/64"), first6, gateways)
			tb := openTable(t, pod.NS)
			for range 2 {
				list, dropped, err := tb.gateways(t.Context(), 4096)
				if err != nil || dropped || len(list) != 2*gateways+2 {
					t.Errorf("%d gateways, more of them: %v, %v; want %d", len(list), dropped, err, 2*gateways+2)
				}
			}
		})
	}
}

// The kernel cannot list it at all: it gives parts without anything in them, for
// ever (IPv6), or ends (IPv4).
func TestRouteThatTheKernelCannotList(t *testing.T) {
	for name, c := range map[string]struct{ dst, first, remove string }{
		"IPv4": {"192.0.2.0/24", "10.0.8.1", "route del 192.0.2.0/24"},
		"IPv6": {"100::/64", "fd00::8:1", "-6 route del 100::/64"},
	} {
		t.Run(name, func(t *testing.T) {
			_, pod := nstest.DualStackPair(t)
			pod.IP("addr add 10.0.3.2/16 dev eth0")
			spread(t, pod, netip.MustParsePrefix(c.dst), mustAddr(c.first), 2200)
			tb := openTable(t, pod.NS)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for range 3 {
				if res, err := tb.Resolve(ctx, Query{}); !errors.Is(err, rtnetlink.ErrTooLong) {
					t.Errorf("%+v, %v", res, err)
				}
			}
			pod.Output(fields(c.remove)...)
			expect(t, resolve(t, tb), gw4+"peer NONE", gw6+"peer NONE")
		})
	}
}

// Routes fill many parts of a dump, of both sizes that there are.
func TestRoutesThatFillManyParts(t *testing.T) {
	const routes = 3000
	_, pod := nstest.DualStackPair(t)
	pod.Flood(routes, routes)
	tb := openTable(t, pod.NS)
	for range 2 {
		list, dropped, err := tb.gateways(t.Context(), 2*routes)
		if err != nil || dropped || len(list) != routes+2 {
			t.Errorf("%d gateways, more of them: %v, %v; want %d", len(list), dropped, err, routes+2)
		}
	}
}
