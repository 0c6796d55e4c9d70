// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
)

// Each case configures a pod with `ip` and names what Resolve must find. The
// host's end is lxc0 and owns no IP address, as with Cilium and Calico.
func TestGatewaysAreFoundInEveryRoute(t *testing.T) {
	const v4, v6 = "10.0.0.1 eth0 " + hostMAC + " inet peer NONE", "fd00::1 eth0 " + hostMAC + " inet6 peer NONE"
	for _, c := range []struct {
		name   string
		sysctl map[string]string // set first
		pod    []string
		after  map[string]string // set last
		want   []string
	}{
		{name: "both families", pod: []string{
			"addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1",
			"addr add fd00::2/64 dev eth0", "route add default via fd00::1",
		}, want: []string{v4, v6}},

		{name: "host routes as Cilium's", pod: []string{
			"addr add 10.0.0.2/32 dev eth0", "route add 10.0.0.1 dev eth0 scope link", "route add default via 10.0.0.1 mtu 1500",
			"addr add fd00::2/128 dev eth0", "route add fd00::1 dev eth0", "route add default via fd00::1",
		}, want: []string{v4, v6}},

		{name: "link-local gateways as Calico's", pod: []string{
			"addr add 10.0.0.2/32 dev eth0", "route add 169.254.1.1 dev eth0 scope link", "route add default via 169.254.1.1",
			"addr add fd00::2/128 dev eth0", "route add default via fe80::ecee:eeff:feee:eeee dev eth0",
		}, want: []string{
			"169.254.1.1 eth0 " + hostMAC + " inet peer NONE",
			"fe80::ecee:eeff:feee:eeee eth0 " + hostMAC + " inet6 peer NONE",
		}},

		{name: "several next hops", pod: []string{
			"addr add 10.0.0.2/24 dev eth0", "addr add 10.1.0.2/24 dev eth1",
			"route add default nexthop via 10.0.0.1 dev eth0 nexthop via 10.1.0.1 dev eth1",
			"addr add fd00::2/64 dev eth0", "addr add fd01::2/64 dev eth1",
			"route add default nexthop via fd00::1 dev eth0 nexthop via fd01::1 dev eth1",
		}, want: []string{v4, v6,
			"10.1.0.1 eth1 " + hostMAC2 + " inet peer NONE", "fd01::1 eth1 " + hostMAC2 + " inet6 peer NONE",
		}},

		{name: "two links with a default each", pod: []string{
			"addr add 10.0.0.2/24 dev eth0", "addr add 10.1.0.2/24 dev eth1", "route add default via 10.0.0.1",
			"route add default via 10.1.0.1 metric 100", "addr add fd00::2/64 dev eth0", "addr add fd01::2/64 dev eth1",
			"route add default via fd00::1 metric 50", "route add default via fd01::1 metric 100",
		}, want: []string{v4, v6,
			"10.1.0.1 eth1 " + hostMAC2 + " inet peer NONE", "fd01::1 eth1 " + hostMAC2 + " inet6 peer NONE",
		}},

		{name: "next hops of IPv6 that came one by one", pod: []string{
			"addr add fd00::2/64 dev eth0", "addr add fd01::2/64 dev eth1",
			"-6 route add default via fd00::1 dev eth0 metric 7", "-6 route append default via fd01::1 dev eth1 metric 7",
		}, want: []string{v6, "fd01::1 eth1 " + hostMAC2 + " inet6 peer NONE"}},

		{name: "a next hop whose link is down", pod: []string{
			"addr add 10.0.0.2/24 dev eth0", "addr add 10.1.0.2/24 dev eth1",
			"route add default nexthop via 10.0.0.1 dev eth0 nexthop via 10.1.0.1 dev eth1", "link set eth1 down",
		}, want: []string{v4}},

		{name: "one gateway address on two links", pod: []string{
			"addr add 10.0.0.2/24 dev eth0", "addr add 10.1.0.2/24 dev eth1",
			"route add default via 169.254.1.1 dev eth0 onlink", "route add default via 169.254.1.1 dev eth1 onlink metric 9",
		}, want: []string{
			"169.254.1.1 eth0 " + hostMAC + " inet peer NONE", "169.254.1.1 eth1 " + hostMAC2 + " inet peer NONE",
		}},

		{name: "tables beside main, below and above 255", pod: []string{
			"addr add 10.0.0.2/24 dev eth0", "addr add fd00::2/64 dev eth0",
			"route add default via 10.0.0.1 table 100", "route add default via 10.0.0.3 table 100000",
			"route add 2001:db8::/32 via fd00::1 table 100", "route add default via fd00::3 table 100000",
		}, want: []string{v4, v6,
			"10.0.0.3 eth0 " + hostMAC + " inet peer NONE", "fd00::3 eth0 " + hostMAC + " inet6 peer NONE",
		}},

		{name: "one gateway in many routes", pod: []string{
			"addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1", "route add 192.0.2.0/24 via 10.0.0.1",
			"route add 198.51.100.0/24 via 10.0.0.1 table 100", "route add default via 10.0.0.1 metric 100",
		}, want: []string{v4}},

		{name: "IPv4 by way of IPv6", pod: []string{
			"addr add 10.0.0.2/32 dev eth0", "-4 route add default via inet6 fe80::1 dev eth0",
			"-4 route add 192.0.2.0/24 nexthop via inet6 fe80::2 dev eth0 nexthop via inet6 fe80::3 dev eth0",
		}, want: []string{
			"fe80::1 eth0 " + hostMAC + " inet6 peer NONE", "fe80::2 eth0 " + hostMAC + " inet6 peer NONE",
			"fe80::3 eth0 " + hostMAC + " inet6 peer NONE",
		}},

		{name: "onlink", pod: []string{
			"addr add 10.0.0.2/32 dev eth0", "route add default via 203.0.113.1 dev eth0 onlink",
			"addr add fd00::2/128 dev eth0", "route add default via 2001:db8::1 dev eth0 onlink",
		}, want: []string{
			"203.0.113.1 eth0 " + hostMAC + " inet peer NONE", "2001:db8::1 eth0 " + hostMAC + " inet6 peer NONE",
		}},

		{name: "nexthop objects", pod: nexthopObjects, want: nexthopObjectsFound},

		{name: "nexthop objects that the routes only name",
			sysctl: map[string]string{"net/ipv4/nexthop_compat_mode": "0"},
			pod:    nexthopObjects, want: nexthopObjectsFound},

		{name: "routes that lead nowhere, or not by a gateway", pod: []string{
			"addr add 10.0.0.2/24 dev eth0", "addr add fd00::2/64 dev eth0",
			"route add blackhole 192.0.2.0/24", "route add unreachable 198.51.100.0/24",
			"route add prohibit 203.0.113.0/24", "route add throw 203.0.113.0/25",
			"route add blackhole 2001:db8:1::/48", "route add unreachable 2001:db8:2::/48",
			"route add prohibit 2001:db8:3::/48", "route add throw 2001:db8:4::/48", "route add 2001:db8:5::/48 dev eth0",
			"route add local 203.0.113.128/25 dev eth0", "route add multicast 239.0.0.0/8 dev eth0",
			"route add default dev eth0", "nexthop add id 9 blackhole", "route add 192.0.2.0/25 nhid 9",
			"route add 127.1.0.0/16 via 127.0.0.1",
		}, want: nil},

		{name: "a link that does not resolve", pod: []string{
			"addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1",
			"addr add fd00::2/64 dev eth0", "route add default via fd00::1", "link set eth0 arp off",
		}, want: []string{"10.0.0.1 eth0 - NoARP", "fd00::1 eth0 - NoARP"}},

		{name: "IPv6 disabled under a route by way of IPv6",
			pod:   []string{"addr add 10.0.0.2/32 dev eth0", "-4 route add default via inet6 fe80::1 dev eth0"},
			after: map[string]string{"net/ipv6/conf/eth0/disable_ipv6": "1"},
			want:  []string{"fe80::1 eth0 - IPv6Disabled"}},

		{name: "an MTU too small for IPv6", pod: []string{
			"addr add 10.0.0.2/32 dev eth0", "-4 route add default via inet6 fe80::1 dev eth0", "link set eth0 mtu 1200",
		}, want: []string{"fe80::1 eth0 - IPv6Disabled"}},

		{name: "a link with an odd name", pod: []string{
			"link set eth0 down", "link set eth0 name e\"\x1b[1m\xff", "link set e\"\x1b[1m\xff up",
			"addr add 10.0.0.2/24 dev e\"\x1b[1m\xff", "route add default via 10.0.0.1",
		}, want: []string{`10.0.0.1 "e\"\x1b[1m\xff" - UnsafeName`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			host, pod := nstest.Pair(t)
			pod.Veth("eth1", host, "lxc1")
			host.IP("link set lxc1 address " + hostMAC2)
			for name, value := range c.sysctl {
				pod.Sysctl(name, value)
			}
			for _, line := range c.pod {
				// Not by the batch, whose reader gives quotes a meaning.
				pod.Output(strings.Fields(line)...)
			}
			for name, value := range c.after {
				pod.Sysctl(name, value)
			}
			tb := openTable(t, pod.NS)
			res := resolve(t, tb)
			expect(t, res, c.want...)

			// What was found can be pinned, and reading has changed nothing.
			if before := entries(pod); len(before) > 0 {
				t.Errorf("entries before pinning: %q", before)
			}
			pin(t, tb, res.Neighbors)
			if diffs, err := tb.Verify(t.Context(), res.Neighbors); len(diffs) > 0 || err != nil {
				t.Errorf("after pinning: %v, %v", diffs, err)
			}
			if got := entries(pod); len(got) != len(res.Neighbors) {
				t.Errorf("%d entries for %d neighbors: %q", len(got), len(res.Neighbors), got)
			}
			var pinned []string
			for _, line := range c.want {
				pinned = append(pinned, strings.Replace(line, "NONE", "PERMANENT", 1))
			}
			expect(t, resolve(t, tb), pinned...)
		})
	}
}

// A plain object, and groups in both families, one of which has a next hop
// without a gateway.
var (
	nexthopObjects = []string{
		"addr add 10.0.0.2/24 dev eth0", "addr add 10.1.0.2/24 dev eth1",
		"addr add fd00::2/64 dev eth0", "addr add fd01::2/64 dev eth1",
		"nexthop add id 1 via 10.0.0.1 dev eth0", "nexthop add id 2 via 10.1.0.1 dev eth1",
		"nexthop add id 3 via fd00::1 dev eth0", "nexthop add id 4 via fd01::1 dev eth1",
		"nexthop add id 5 via 10.0.0.5 dev eth0", "nexthop add id 6 dev eth1",
		"nexthop add id 7 via fe80::7 dev eth0",
		"nexthop add id 11 group 1/2,3", "nexthop add id 12 group 3/4",
		"route add default nhid 11", "-6 route add default nhid 12",
		"route add 192.0.2.0/24 nhid 5", "route add 198.51.100.0/24 nhid 6", "route add 203.0.113.0/24 nhid 7",
	}
	nexthopObjectsFound = []string{
		"10.0.0.1 eth0 " + hostMAC + " inet peer NONE", "10.1.0.1 eth1 " + hostMAC2 + " inet peer NONE",
		"fd00::1 eth0 " + hostMAC + " inet6 peer NONE", "fd01::1 eth1 " + hostMAC2 + " inet6 peer NONE",
		"10.0.0.5 eth0 " + hostMAC + " inet peer NONE", "fe80::7 eth0 " + hostMAC + " inet6 peer NONE",
	}
)

func TestLimitKeepsDefaultRoutesAndSaysSo(t *testing.T) {
	_, pod := nstest.Pair(t)
	setup := []string{"addr add 10.0.0.2/16 dev eth0", "addr add fd00::2/64 dev eth0"}
	for i := range 500 {
		setup = append(setup, fmt.Sprintf("route add 198.18.%d.%d/32 via 10.0.%d.%d table 7", i/250, i%250+1, i/250+1, i%250+1))
	}
	// Last in every order that the kernel may list them in.
	setup = append(setup, "route add default via 10.0.200.1", "route add default via fd00::1")
	pod.IP(setup...)
	tb := openTable(t, pod.NS)
	res, err := tb.Resolve(t.Context(), Query{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Neighbors) != 10 || len(res.Skipped) != 1 || res.Skipped[0].Reason != ReasonLimitReached {
		t.Fatalf("%d neighbors, skipped %v", len(res.Neighbors), res.Skipped)
	}
	got := strings.Join(lines(res), "\n")
	for _, gateway := range []string{"10.0.200.1 ", "fd00::1 "} {
		if !strings.Contains(got, gateway) {
			t.Errorf("the default gateway %sis missing:\n%s", gateway, got)
		}
	}
	// Exactly as many as there are is not too many.
	if res, err := tb.Resolve(t.Context(), Query{Limit: 502}); err != nil || len(res.Neighbors) != 502 || len(res.Skipped) != 0 {
		t.Errorf("%d neighbors, skipped %v, %v", len(res.Neighbors), res.Skipped, err)
	}
}

func TestHandedOver(t *testing.T) {
	_, pod := nstest.Pair(t)
	tb := openTable(t, pod.NS)
	setup := []string{
		"addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1",
		"addr add fd00::2/64 dev eth0", "route add default via fd00::1",
	}
	pod.IP(setup...)
	if res := resolve(t, tb); res.HandedOver || len(res.Neighbors) != 2 {
		t.Fatalf("before: %v", res)
	}
	// As gVisor does: every address goes and the link stays up. IPv4 routes go
	// with the addresses, an IPv6 default route does not.
	pod.IP("addr del 10.0.0.2/24 dev eth0", "addr del fd00::2/64 dev eth0")
	if left := pod.Output("-6", "route", "show", "default"); left == "" {
		t.Error("the IPv6 default route went with the address")
	}
	expect(t, resolve(t, tb), "handed over")
	pod.Output("-6", "route", "flush", "dev", "eth0")
	expect(t, resolve(t, tb), "handed over")

	pod.IP("addr add 10.0.0.2/24 dev eth0")
	expect(t, resolve(t, tb)) // an address without a gateway: nothing to pin
	pod.IP("addr del 10.0.0.2/24 dev eth0", "link set eth0 down")
	expect(t, resolve(t, tb)) // not set up yet

	expect(t, resolve(t, openTable(t, nstest.New(t).NS))) // loopback only
}
