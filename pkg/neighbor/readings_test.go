// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
)

// Two pods of one bridge are judged by one reading of the host, as long as that is the caller's wish.
func TestWhatWasReadOfTheHostServesSeveral(t *testing.T) {
	host, first := bridged(t)
	besides(host, "gw0", otherMAC)
	host.IP("addr add 10.0.0.1/24 dev gw0", "addr add fd00::1/64 dev gw0 nodad")
	second := nstest.New(t)
	second.Veth("eth0", host, "lxc1")
	second.IP("addr add 10.0.0.3/24 dev eth0", "addr add fd00::3/64 dev eth0 nodad", "route add default via 10.0.0.1", "route add default via fd00::1")
	const portMAC = "02:00:00:00:00:77"
	host.IP("link set lxc1 address " + portMAC + " master cni0")
	tables := []*Table{tableFor(t, first, host), tableFor(t, second, host)}
	as := func(mac string) []string {
		return []string{"10.0.0.1 eth0 " + mac + " inet host NONE", "fd00::1 eth0 " + mac + " inet6 host NONE"}
	}
	shared := NewReadings()
	expect(t, look(t, tables[0], Query{Shared: shared}), as(otherMAC)...)
	host.IP("link set gw0 address " + hostMAC2)
	expect(t, look(t, tables[1], Query{Shared: shared}), as(otherMAC)...)
	for _, table := range tables {
		expect(t, look(t, table, Query{Shared: NewReadings()}), as(hostMAC2)...)
		expect(t, look(t, table, Query{}), as(hostMAC2)...)
	}
	known := look(t, tables[0], Query{}).Neighbors
	review, err := tables[1].Review(t.Context(), Query{Known: known, Shared: shared})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, review, as(otherMAC)...)

	// Who holds the gateway is a part of it; whether the bridge does is always read.
	host.IP("addr del 10.0.0.1/24 dev gw0")
	expect(t, look(t, tables[1], Query{Shared: shared}), as(otherMAC)...)
	host.IP("addr add 10.0.0.1/24 dev cni0")
	expect(t, look(t, tables[1], Query{Shared: shared}), "10.0.0.1 eth0 "+portMAC+" inet port NONE", as(otherMAC)[1])
}
