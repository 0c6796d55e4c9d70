// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"

	"github.com/neighpin/neighpin/pkg/netns"
)

const pod4 = "10.88.0.2"

// wayOut makes the host know a way to the pod, with an entry that an old CNI left.
func (n *node) wayOut() {
	n.t.Helper()
	n.outside.IP("route add "+pod4+"/32 dev veth0", "route add fd00:88::2/128 dev veth0")
}

func (n *node) leftover() {
	n.t.Helper()
	n.outside.IP("neighbor replace " + pod4 + " lladdr " + foreignMAC + " dev veth0 nud permanent")
}

// hostEntries are the permanent entries of the host's end.
func (n *node) hostEntries() string {
	n.t.Helper()
	return n.outside.Output("-4", "neighbor", "show", "dev", "veth0", "nud", "permanent") + n.outside.Output("-6", "neighbor", "show", "dev", "veth0", "nud", "permanent")
}

func TestHostStateIsReported(t *testing.T) {
	n := newNodeWith(t, func(n *node) { n.hostState = HostStateReport })
	p := n.newPod("runsc", typeGVisor).listed().cni()
	n.wayOut()
	n.leftover()
	before := n.hostEntries()
	p.ready()
	n.eventually("the find to be told", func() bool { return n.log.count(KindHostState) == 1 })
	rec := n.log.last(KindHostState).Record
	if finds := rec.HostState.Finds; len(finds) != 1 || finds[0].LLAddr != foreignMAC || finds[0].Removed {
		t.Errorf("found %+v", finds)
	}
	if after := n.hostEntries(); after != before {
		t.Errorf("reporting changed\n%s\nto\n%s", before, after)
	}
	if rec.Addresses[0].Addr.String() != pod4 || string(rec.Addresses[0].LLAddr) != p.MAC("eth0") || rec.Addresses[0].End == 0 {
		t.Errorf("addresses %+v", rec.Addresses)
	}
	n.eventually("the find to be on disk", func() bool {
		on, err := n.engine.records.Load(podID)
		return err == nil && on.HostState != nil && len(on.HostState.Finds) == 1
	})
	p.take()
	n.awaitVerdict(InTime)
	n.engine.Close()
	n.start()
	n.settled(podID)
	if n.log.count(KindHostState) != 0 || len(n.record().HostState.Finds) != 1 {
		t.Errorf("after a restart it is told %d times; the record has %+v", n.log.count(KindHostState), n.record().HostState)
	}
}

func TestHostStateOffDoesNotLook(t *testing.T) {
	n := newNodeWith(t, func(n *node) { n.hostState = HostStateOff })
	p := n.newPod("runsc", typeGVisor).listed().cni()
	n.wayOut()
	n.leftover()
	p.ready()
	n.awaitPinned()
	p.take()
	if rec := n.awaitVerdict(InTime); rec.HostState != nil || len(rec.Addresses) != 0 || n.log.count(KindHostState) != 0 {
		t.Errorf("looked: %+v", rec.HostState)
	}
}

// What others left stands in the way back's place: it is removed, and the way back
// is set.
func TestHostStateIsCleanedAndTheWayBackSet(t *testing.T) {
	n := newNodeWith(t, func(n *node) { n.hostState, n.returnPath = HostStateClean, true })
	p := n.newPod("runsc", typeGVisor).listed().cni()
	n.wayOut()
	n.leftover()
	p.ready()
	n.eventually("the way back", func() bool { return len(n.record().ReturnPath) == 3 })
	mac := p.MAC("eth0")
	if got := n.hostEntries(); strings.Contains(got, foreignMAC) || strings.Count(got, mac+" PERMANENT proto 177") != 3 {
		t.Errorf("host has\n%s", got)
	}
	if finds := n.record().HostState.Finds; len(finds) != 1 || !finds[0].Removed || finds[0].Restore == "" {
		t.Errorf("found %+v", finds)
	}
	p.take()
	n.awaitVerdict(InTime)

	// A restart keeps it, and puts back what was lost meanwhile.
	n.engine.Close()
	if got := n.hostEntries(); strings.Count(got, mac) != 3 {
		t.Errorf("the end of the daemon took away:\n%s", got)
	}
	n.outside.IP("neighbor delete " + pod4 + " dev veth0")
	n.start()
	n.eventually("what was lost to be back", func() bool { return strings.Count(n.hostEntries(), mac) == 3 })

	// The end of the sandbox, while the link is still there.
	p.remove()
	n.eventually("the record to go", func() bool { return n.log.count(KindReleased) == 1 })
	if got := n.hostEntries(); got != "" {
		t.Errorf("left:\n%s", got)
	}
}

// A pod on the kernel's stack that gives its link another address is followed.
func TestWayBackFollowsThePodsLink(t *testing.T) {
	n := newNodeWith(t, func(n *node) { n.returnPath = true })
	p := n.running()
	n.eventually("the way back", func() bool { return len(n.record().ReturnPath) == 3 })
	p.IP("link set eth0 address " + otherMAC)
	n.eventually("the way back to follow", func() bool {
		return strings.Count(n.hostEntries(), otherMAC) >= 2 && strings.Contains(n.hostEntries(), pod4+" lladdr "+otherMAC)
	})
	// An address of the pod's making is not CNI's.
	p.IP("address add 192.0.2.77/32 dev eth0")
	n.engine.guard.mu.Lock()
	n.engine.guard.all(resync)
	n.engine.guard.mu.Unlock()
	n.settled(podID)
	if got := n.hostEntries(); strings.Contains(got, "192.0.2.77") {
		t.Errorf("host has\n%s", got)
	}
}

func TestUndoTakesTheWayBackAway(t *testing.T) {
	n := newNodeWith(t, func(n *node) { n.returnPath = true })
	p := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.eventually("the way back", func() bool { return len(n.record().ReturnPath) == 3 })
	p.take()
	n.awaitVerdict(InTime)
	n.engine.Close()
	n.outside.IP("neighbor replace 192.0.2.1 lladdr " + foreignMAC + " dev veth0 nud permanent")
	host, err := netns.NewHost()
	if err != nil {
		t.Fatal(err)
	}
	undone, err := RecordsIn(n.stateDir).UndoAll(t.Context(), host)
	if err != nil || len(undone) != 1 || len(undone[0].ReturnPath) != 3 {
		t.Errorf("undone %+v, %v", undone, err)
	}
	if got := n.hostEntries(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "192.0.2.1") {
		t.Errorf("left:\n%s", got)
	}
	if list, err := RecordsIn(n.stateDir).Addresses(); len(list) != 0 || err != nil {
		t.Errorf("addresses %+v, %v", list, err)
	}
}

// A pod that ran before its start was seen may have any addresses.
func TestNothingIsDoneOnTheHostForAnAdoptedPod(t *testing.T) {
	n := newNodeWith(t, func(n *node) { n.hostState, n.returnPath = HostStateClean, true })
	p := n.newPod("", typeRunc)
	p.cni()
	n.wayOut()
	n.leftover()
	before := n.hostEntries()
	n.engine.Adopt(t.Context(), []Identity{{ID: podID, Runtime: typeRunc, NetNSPath: p.rec.NetNSPath, Annotations: map[string]string{PinAnnotation: "true"}}})
	n.eventually("the pod to be pinned", func() bool { return len(n.record().Neighbors) == 2 })
	n.settled(podID)
	if rec := n.record(); rec.HostState != nil || len(rec.ReturnPath) != 0 || len(rec.Addresses) != 0 || n.hostEntries() != before {
		t.Errorf("record %+v, host has\n%s", rec, n.hostEntries())
	}
}
