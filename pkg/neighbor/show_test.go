// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

func TestContentsAreThoseThatIPShows(t *testing.T) {
	ns, outside := nstest.New(t), nstest.New(t)
	ns.Veth("eth0", outside, "veth0")
	ns.IP("address add 10.88.0.2/24 dev eth0", "address add fd00:88::2/64 dev eth0 nodad",
		"route add default via 10.88.0.1 metric 7", "route add 10.9.0.0/16 via 10.88.0.3 table 100", "route add default via fd00:88::1",
		"nexthop add id 5 via 10.88.0.4 dev eth0", "route add 10.10.0.0/16 nhid 5",
		"neigh add 10.88.0.1 dev eth0 lladdr 02:00:00:00:00:01 nud permanent proto 177")
	table := openTable(t, ns.NS)
	got, err := table.Contents(t.Context(), 64)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(got.Links, func(l ShownLink) bool { return l.Name == "eth0" })
	if i < 0 || got.Links[i].Kind != "veth" || got.Links[i].LLAddr.String() != ns.MAC("eth0") || got.Links[i].NSID == nil || !got.Links[i].Up {
		t.Errorf("links %+v", got.Links)
	}
	if !slices.Contains(got.Addresses, ShownAddr{"eth0", netip.MustParsePrefix("10.88.0.2/24")}) ||
		!slices.Contains(got.Addresses, ShownAddr{"eth0", netip.MustParsePrefix("fd00:88::2/64")}) {
		t.Errorf("addresses %+v", got.Addresses)
	}
	for _, want := range []ShownRoute{
		{Dst: "default", Gateway: netip.MustParseAddr("10.88.0.1"), Dev: "eth0", Table: unix.RT_TABLE_MAIN, Metric: 7},
		{Dst: "10.9.0.0/16", Gateway: netip.MustParseAddr("10.88.0.3"), Dev: "eth0", Table: 100},
		{Dst: "10.10.0.0/16", Gateway: netip.MustParseAddr("10.88.0.4"), Dev: "eth0", Table: unix.RT_TABLE_MAIN, Nexthop: 5},
		{Dst: "default", Gateway: netip.MustParseAddr("fd00:88::1"), Dev: "eth0", Table: unix.RT_TABLE_MAIN, Metric: 1024},
	} {
		if !slices.Contains(got.Routes, want) {
			t.Errorf("no route %+v in %+v", want, got.Routes)
		}
	}
	j := slices.IndexFunc(got.Neighbors, func(e ShownEntry) bool { return e.Dst == netip.MustParseAddr("10.88.0.1") })
	if j < 0 || got.Neighbors[j].Protocol != Protocol || !slices.Equal(got.Neighbors[j].State, []string{"PERMANENT"}) || got.Cut {
		t.Errorf("neighbors %+v, cut %t", got.Neighbors, got.Cut)
	}
	if got, err := table.Contents(t.Context(), 1); err != nil || !got.Cut || len(got.Routes) != 1 || len(got.Addresses) != 1 {
		t.Errorf("one of each: %+v, %v", got, err)
	}
	if l, err := table.Link(t.Context(), got.Links[i].Index); err != nil || l.Name != "eth0" {
		t.Errorf("the link by its number: %+v, %v", l, err)
	}
	if _, err := table.Link(t.Context(), 9999); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no link: %v", err)
	}
}
