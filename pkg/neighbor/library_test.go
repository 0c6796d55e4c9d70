// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

// Another reader of the same messages finds the same gateways, in all that it
// can read: it knows no nexthop objects.
func TestGatewaysAgreeWithAnotherReader(t *testing.T) {
	host, pod := nstest.Pair(t)
	pod.Veth("eth1", host, "lxc1")
	for _, line := range nexthopObjects { // with net.ipv4.nexthop_compat_mode=1 the routes spell them out
		pod.Output(fields(line)...)
	}
	pod.IP("route add 192.0.2.64/26 via inet6 fe80::64 dev eth0", "route add default via 10.0.0.77 table 7777",
		"route add 192.0.2.128/25 nexthop via 10.0.0.1 dev eth0 nexthop via inet6 fe80::1 dev eth1",
		"route add 2001:db8::/32 via fe80::99 dev eth1 table 7", "route add unreachable 2001:db8:1::/48",
		"route add 198.51.100.0/25 via 203.0.113.1 dev eth1 onlink", "route add 203.0.113.0/26 dev eth1")
	tb := openTable(t, pod.NS)
	keys, dropped, err := tb.gateways(t.Context(), DefaultLimit)
	if err != nil || dropped {
		t.Fatal(dropped, err)
	}
	// Where some family refuses to be read, each is read by itself.
	each, err := tb.routes(t.Context(), DefaultLimit, unix.AF_INET, unix.AF_INET6)
	if err != nil || len(each.gateways.members)+len(each.nexthops.members) < len(keys) {
		t.Errorf("by each family %d gateways and %d nexthop objects, by all together %d gateways, %v",
			len(each.gateways.members), len(each.nexthops.members), len(keys), err)
	}
	var ours []string
	for _, k := range keys {
		ours = append(ours, fmt.Sprintf("%d %s", k.Index, k.Dst))
	}
	slices.Sort(ours)
	theirs := libraryGateways(t, pod)
	if diff := cmp.Diff(theirs, ours); diff != "" {
		t.Errorf("gateways (-library +ours):\n%s", diff)
	}
	if len(ours) < 10 {
		t.Errorf("only %d gateways", len(ours))
	}
}

func libraryGateways(t *testing.T, pod *nstest.NS) []string {
	t.Helper()
	handle, err := netlink.NewHandleAt(netns.NsHandle(pod.FD()))
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	routes, err := handle.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	add := func(index int, gw net.IP, via netlink.Destination) {
		if v, ok := via.(*netlink.Via); ok {
			gw = v.Addr
		}
		if ip, ok := netip.AddrFromSlice(gw); ok {
			list = append(list, fmt.Sprintf("%d %s", index, ip.Unmap()))
		}
	}
	for _, r := range routes {
		add(r.LinkIndex, r.Gw, r.Via)
		for _, hop := range r.MultiPath {
			add(hop.LinkIndex, hop.Gw, hop.Via)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
