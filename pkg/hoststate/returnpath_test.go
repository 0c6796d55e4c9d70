// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// routed makes a pod with a veth of its own to the host.
func (n node) routed() (pod *nstest.NS, addresses []Address) {
	n.t.Helper()
	pod = nstest.New(n.t)
	n.Veth("cali5", pod, "eth0")
	n.t.Cleanup(func() { _, _ = n.TryIP("link delete cali5") })
	pod.IP("address add 10.2.0.5/32 dev eth0", "address add fd02::5/128 dev eth0 nodad", "route add 10.2.0.1 dev eth0", "route add default via 10.2.0.1")
	n.IP("route add 10.2.0.5/32 dev cali5", "route add fd02::5/128 dev cali5")
	return pod, n.addresses(pod)
}

func (n node) permanent(dev string) string {
	n.t.Helper()
	return n.Output("-4", "neighbor", "show", "dev", dev, "nud", "permanent") + n.Output("-6", "neighbor", "show", "dev", dev, "nud", "permanent")
}

func (n node) set(addresses []Address, known []Entry) []Entry {
	n.t.Helper()
	entries, err := SetReturnPath(n.t.Context(), addresses, known)
	if err != nil {
		n.t.Fatal(err)
	}
	return entries
}

func TestTheWayBackIsSetOnceFollowsAndIsReleased(t *testing.T) {
	n := node{nstest.Own(t), t}
	pod, addresses := n.routed()
	mac := pod.MAC("eth0")
	entries := n.set(addresses, nil)
	got := n.permanent("cali5")
	for _, ip := range []string{"10.2.0.5 ", "fd02::5 ", "fe80::"} {
		if !strings.Contains(got, ip) {
			t.Errorf("no entry for %s in:\n%s", ip, got)
		}
	}
	if len(entries) != 3 || strings.Count(got, mac) != 3 || strings.Count(got, "proto 177") != 3 {
		t.Errorf("entries %+v, host has:\n%s", entries, got)
	}
	if again := n.set(addresses, entries); len(again) != 3 || again[0] != entries[0] || n.permanent("cali5") != got {
		t.Errorf("the second time: %+v\n%s", again, n.permanent("cali5"))
	}
	// An address that the pod has no more, and one that is another's by now.
	n.IP("neighbor replace fd02::5 lladdr 02:00:00:00:00:77 dev cali5 nud permanent")
	left, err := SetReturnPath(t.Context(), addresses[1:], entries)
	if err == nil || len(left) != 1 || !strings.Contains(err.Error(), "fd02::5") {
		t.Errorf("somebody's entry: %+v, %v", left, err)
	}
	if got := n.permanent("cali5"); strings.Contains(got, "10.2.0.5") || !strings.Contains(got, "02:00:00:00:00:77") {
		t.Errorf("host has:\n%s", got)
	}
	released, err := ReleaseReturnPath(t.Context(), entries)
	if err != nil || len(released) != 1 {
		t.Errorf("released %+v, %v; want the one that is left as it was", released, err)
	}
	if got := n.permanent("cali5"); strings.Count(got, "\n") != 1 || !strings.Contains(got, "02:00:00:00:00:77") {
		t.Errorf("left:\n%s", got)
	}
}

// Felix sets permanent entries without a protocol, by replacing, before or after us.
func TestWayBackBesideFelix(t *testing.T) {
	felix := func(n node, mac string) {
		n.IP("neighbor replace 10.2.0.5 lladdr "+mac+" dev cali5 nud permanent", "neighbor replace fd02::5 lladdr "+mac+" dev cali5 nud permanent")
	}
	t.Run("before us", func(t *testing.T) {
		n := node{nstest.Own(t), t}
		pod, addresses := n.routed()
		felix(n, pod.MAC("eth0"))
		before := n.permanent("cali5")
		entries := n.set(addresses[:2], nil)
		for _, e := range entries {
			if e.Source != neighbor.SourceExisting {
				t.Errorf("ours: %+v", e)
			}
		}
		if after := n.permanent("cali5"); after != before || len(entries) != 2 {
			t.Errorf("%d entries, changed:\n%s\nto:\n%s", len(entries), before, after)
		}
		if released, err := ReleaseReturnPath(t.Context(), entries); err != nil || len(released) != 0 || n.permanent("cali5") != before {
			t.Errorf("released %+v, %v", released, err)
		}
	})
	t.Run("after us", func(t *testing.T) {
		n := node{nstest.Own(t), t}
		pod, addresses := n.routed()
		entries := n.set(addresses[:2], nil)
		felix(n, pod.MAC("eth0"))
		if again := n.set(addresses[:2], entries); len(again) != 2 || again[0] != entries[0] || again[1] != entries[1] {
			t.Errorf("were %+v, are %+v", entries, again)
		}
		if got := n.permanent("cali5"); strings.Count(got, pod.MAC("eth0")) != 2 {
			t.Errorf("host has:\n%s", got)
		}
	})
}

func TestNoWayBackOnABridgeAndGoneWithTheLink(t *testing.T) {
	n := newNode(t)
	_, addresses := n.pod("veth5", podIP)
	before := n.dump()
	if entries := n.set(addresses, nil); len(entries) != 0 || n.dump() != before {
		t.Errorf("written for a port of a bridge: %+v\n%s", entries, n.dump())
	}
	_, addresses = n.routed()
	entries := n.set(addresses, nil)
	n.IP("link delete cali5")
	// Another's link of the same name, with the same entry.
	other, _ := n.routed()
	other.IP("link set eth0 address " + string(entries[0].LLAddr))
	later := n.set(n.addresses(other), nil)
	if released, err := ReleaseReturnPath(t.Context(), entries); err != nil || len(released) != 0 {
		t.Errorf("released %+v of another's link, %v", released, err)
	}
	if released, err := ReleaseReturnPath(t.Context(), later); err != nil || len(released) != len(later) {
		t.Errorf("released %+v, %v", released, err)
	}
}
