// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"maps"
	"net"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// nexthops reach gateways through objects that routes share: one of a single hop and one of a group, in either family.
const nexthops = `
	nexthop add id 1 via 10.98.0.1 dev eth1
	nexthop add id 2 via 10.98.0.3 dev eth1
	nexthop add id 3 group 1/2
	nexthop add id 9 blackhole
	route add 203.0.113.0/24 nhid 1
	route add 198.18.0.0/24 nhid 3
	route add 198.18.9.0/24 nhid 9
	-6 nexthop add id 11 via fd98::1 dev eth1
	-6 nexthop add id 12 via fd98::3 dev eth1
	nexthop add id 13 group 11/12
	-6 route add 2001:db8:1::/64 nhid 11
	-6 route add 2001:db8:2::/64 nhid 13`

// Routes beside ptp's, and the gateways on eth1 that they add: exactly these, once each. On eth0 there are always ptp's two.
var routeCases = []struct {
	scenario   string
	parameters datapath.Routes
	gateways   []string
	// ignored says that gVisor leaves such routes out (runsc/sandbox/network.go) and so reaches no more than the gateways.
	ignored bool
	// onLink says that nothing beyond the gateways is reached, as nobody there answers on the link.
	onLink bool
}{
	{scenario: "a second interface with a default of its own", parameters: datapath.Routes{Commands: `
		route add default via 10.98.0.1 dev eth1 metric 100
		-6 route add default via fd98::1 dev eth1 metric 2048`},
		gateways: []string{"10.98.0.1", "fd98::1"}},
	{scenario: "equal-cost multipath", parameters: datapath.Routes{Commands: `
		route replace default nexthop via 10.97.0.1 dev eth0 nexthop via 10.98.0.1 dev eth1 weight 3
		-6 route append default via fd98::1 dev eth1`},
		gateways: []string{"10.98.0.1", "fd98::1"}, ignored: true},
	{scenario: "tables 100 and 100000", parameters: datapath.Routes{Commands: `
		route add default via 10.98.0.1 dev eth1 table 100
		route add default via 10.98.0.3 dev eth1 table 100000
		-6 route add default via fd98::1 dev eth1 table 100
		-6 route add default via fd98::3 dev eth1 table 100000
		rule add from 10.98.0.2 lookup 100
		-6 rule add from fd98::2 lookup 100000`},
		gateways: []string{"10.98.0.1", "10.98.0.3", "fd98::1", "fd98::3"}},
	{scenario: "nexthop objects", parameters: datapath.Routes{Commands: nexthops},
		gateways: []string{"10.98.0.1", "10.98.0.3", "fd98::1", "fd98::3"}},
	{scenario: "nexthop objects that only say their number", parameters: datapath.Routes{Commands: nexthops, NexthopCompatMode: "0"},
		gateways: []string{"10.98.0.1", "10.98.0.3", "fd98::1", "fd98::3"}},
	{scenario: "IPv4 by way of an IPv6 gateway", parameters: datapath.Routes{Commands: `
		-4 route add 203.0.113.0/24 via inet6 fd98::1 dev eth1`},
		gateways: []string{"fd98::1"}},
	{scenario: "gateways that are not on the link, and link-local ones", parameters: datapath.Routes{Commands: `
		route add 203.0.113.0/24 via 192.0.2.77 dev eth1 onlink
		-6 route add 2001:db8:1::/64 via fe80::77 dev eth1`},
		gateways: []string{"192.0.2.77", "fe80::77"}},
	{scenario: "no gateway, and routes to nowhere", parameters: datapath.Routes{Commands: `
		route add 203.0.113.0/24 dev eth1
		-6 route add 2001:db8:1::/64 dev eth1
		route add blackhole 198.18.0.0/24
		route add unreachable 198.18.1.0/24
		route add prohibit 198.18.2.0/24
		route add throw 198.18.3.0/24
		-6 route add blackhole 2001:db8:2::/64
		-6 route add unreachable 2001:db8:3::/64
		-6 route add prohibit 2001:db8:4::/64
		-6 route add throw 2001:db8:5::/64`}},
	{scenario: "defaults without a gateway", parameters: datapath.Routes{Commands: `
		route replace default dev eth0
		-6 route del default
		-6 route add default dev eth0`}, onLink: true},
}

func TestRowRoutes(t *testing.T) {
	for _, c := range routeCases {
		t.Run(c.scenario, func(t *testing.T) {
			row(t, rowSpec{name: "routes", parameters: c.parameters}, func(t *testing.T, r *rowRun) {
				first := r.hostEnd(t)
				second, err := net.InterfaceByName(datapath.SecondHostLink)
				if err != nil {
					t.Fatal(err)
				}
				want := map[string]truth{"10.97.0.1": {first, "peer"}, "fd97::1": {first, "peer"}}
				for _, gateway := range c.gateways {
					want[at(gateway, "eth1")] = truth{second.HardwareAddr.String(), "peer"}
				}
				r.pinned(t, want)
				r.skipped(t, map[string]string{})
				if c.onLink || c.ignored && r.gvisor {
					r.reaches(t, node.Targets()[:2]...)
				} else {
					r.reaches(t, node.Targets()...)
				}
				r.silent(t, append(c.gateways, "10.97.0.1", "fd97::1")...)
			})
		})
	}
}

// The pod has its IPv6 gateway from a router advertisement: the link-local address of the host's end, and no other.
func TestRowRouterAdvertisement(t *testing.T) {
	row(t, rowSpec{name: "advertised"}, func(t *testing.T, r *rowRun) {
		mac := r.hostEnd(t)
		link, err := net.InterfaceByName(r.pod.HostLink)
		if err != nil {
			t.Fatal(err)
		}
		addresses, err := link.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]truth{"10.97.0.1": {mac, "peer"}}
		for _, a := range addresses {
			if prefix := a.(*net.IPNet); prefix.IP.To4() == nil && prefix.IP.IsLinkLocalUnicast() {
				want[prefix.IP.String()] = truth{mac, "peer"}
			}
		}
		r.pinned(t, want)
		r.skipped(t, map[string]string{})
		r.reaches(t, node.Beyond()...)
		for gateway := range maps.Keys(want) {
			r.silent(t, gateway)
		}
	})
}
