// SPDX-License-Identifier: Apache-2.0

package view

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

func TestContentsAreThoseThatIPShows(t *testing.T) {
	ns, outside := nstest.New(t), nstest.New(t)
	ns.Veth("eth0", outside, "veth0")
	ns.IP("address add 10.88.0.2/24 dev eth0", "address add fd00:88::2/64 dev eth0 nodad",
		"route add default via 10.88.0.1 metric 7", "route add 10.9.0.0/16 via 10.88.0.3 table 100", "route add default via fd00:88::1",
		"nexthop add id 5 via 10.88.0.4 dev eth0", "route add 10.10.0.0/16 nhid 5",
		"neigh add 10.88.0.1 dev eth0 lladdr 02:00:00:00:00:01 nud permanent proto 177")
	host, err := netns.NewHost()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	got, cookie, err := Namespace(t.Context(), host, ns.Mount(), 64)
	if err != nil || cookie != ns.Cookie() {
		t.Fatal(cookie, err)
	}
	i := slices.IndexFunc(got.Links, func(l Link) bool { return l.Name == "eth0" })
	if i < 0 || got.Links[i].Kind != "veth" || got.Links[i].LLAddr != ns.MAC("eth0") || got.Links[i].NSID == nil || !got.Links[i].Up {
		t.Errorf("links %+v", got.Links)
	}
	if !slices.Contains(got.Addresses, Addr{"eth0", netip.MustParsePrefix("10.88.0.2/24")}) ||
		!slices.Contains(got.Addresses, Addr{"eth0", netip.MustParsePrefix("fd00:88::2/64")}) {
		t.Errorf("addresses %+v", got.Addresses)
	}
	for _, want := range []Route{
		{Dst: "default", Gateway: netip.MustParseAddr("10.88.0.1"), Dev: "eth0", Table: unix.RT_TABLE_MAIN, Metric: 7},
		{Dst: "10.9.0.0/16", Gateway: netip.MustParseAddr("10.88.0.3"), Dev: "eth0", Table: 100},
		{Dst: "10.10.0.0/16", Gateway: netip.MustParseAddr("10.88.0.4"), Dev: "eth0", Table: unix.RT_TABLE_MAIN, Nexthop: 5},
		{Dst: "default", Gateway: netip.MustParseAddr("fd00:88::1"), Dev: "eth0", Table: unix.RT_TABLE_MAIN, Metric: 1024},
	} {
		if !slices.Contains(got.Routes, want) {
			t.Errorf("no route %+v in %+v", want, got.Routes)
		}
	}
	j := slices.IndexFunc(got.Neighbors, func(e Entry) bool { return e.Dst == netip.MustParseAddr("10.88.0.1") })
	if j < 0 || got.Neighbors[j].Protocol != neighbor.Protocol || !slices.Equal(got.Neighbors[j].State, []string{"PERMANENT"}) || got.Cut {
		t.Errorf("neighbors %+v, cut %t", got.Neighbors, got.Cut)
	}
	if got, _, err := Namespace(t.Context(), host, ns.Mount(), 1); err != nil || !got.Cut || len(got.Routes) != 1 || len(got.Addresses) != 1 {
		t.Errorf("one of each: %+v, %v", got, err)
	}
}

func TestLinksOfTheHostByTheirNumbers(t *testing.T) {
	links, err := Links(t.Context(), []int{1, 1 << 20})
	if !errors.Is(err, unix.ENODEV) || len(links) != 1 || links[0].Name != "lo" {
		t.Errorf("%+v, %v", links, err)
	}
}
