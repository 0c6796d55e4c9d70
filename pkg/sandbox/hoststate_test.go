// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

var errRefused = errors.New("the kernel refuses for a moment")

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
	n.eventually("the find to be told", func() bool { return n.log.count(record.KindHostState) == 1 })
	rec := n.log.last(record.KindHostState).Record
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
	n.awaitVerdict(record.InTime)
	n.engine.Close()
	n.start()
	n.settled(podID)
	if n.log.count(record.KindHostState) != 0 || len(n.record().HostState.Finds) != 1 {
		t.Errorf("after a restart it is told %d times; the record has %+v", n.log.count(record.KindHostState), n.record().HostState)
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
	if rec := n.awaitVerdict(record.InTime); rec.HostState != nil || len(rec.Addresses) != 0 || n.log.count(record.KindHostState) != 0 {
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
	n.awaitVerdict(record.InTime)

	// A restart keeps it, and puts back what was lost meanwhile.
	n.engine.Close()
	if got := n.hostEntries(); strings.Count(got, mac) != 3 {
		t.Errorf("the end of the daemon took away:\n%s", got)
	}
	n.outside.IP("neighbor delete " + pod4 + " dev veth0")
	n.start()
	n.eventually("what was lost to be back", func() bool { return strings.Count(n.hostEntries(), mac) == 3 })

	// The end of the sandbox, while the link is still there.
	n.engine.SandboxRemoved(podID)
	n.eventually("the record to go", func() bool { return n.log.count(record.KindReleased) == 1 })
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
	n.engine.guard.All(guard.Resync)
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
	n.awaitVerdict(record.InTime)
	n.engine.Close()
	n.outside.IP("neighbor replace 192.0.2.1 lladdr " + foreignMAC + " dev veth0 nud permanent")
	host, err := netns.NewHost()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = host.Close() }()
	undone, err := UndoAll(t.Context(), record.In(n.stateDir), host)
	if err != nil || len(undone) != 1 || len(undone[0].ReturnPath) != 3 {
		t.Errorf("undone %+v, %v", undone, err)
	}
	if got := n.hostEntries(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "192.0.2.1") {
		t.Errorf("left:\n%s", got)
	}
	if list, err := record.In(n.stateDir).Addresses(); len(list) != 0 || err != nil {
		t.Errorf("addresses %+v, %v", list, err)
	}
}

// A pod that ran before its start was seen may have any addresses.
func TestNothingIsDoneOnTheHostForAPodThatIsTakenOver(t *testing.T) {
	n := newNodeWith(t, func(n *node) { n.hostState, n.returnPath = HostStateClean, true })
	p := n.newPod("", typeRunc)
	p.cni()
	n.wayOut()
	n.leftover()
	before := n.hostEntries()
	n.engine.TakeOver(t.Context(), []record.Identity{{ID: podID, Runtime: typeRunc, NetNSPath: p.rec.NetNSPath, Annotations: map[string]string{selection.PinAnnotation: "true"}}})
	n.eventually("the pod to be pinned", func() bool { return len(n.record().Neighbors) == 2 })
	n.settled(podID)
	if rec := n.record(); rec.HostState != nil || len(rec.ReturnPath) != 0 || len(rec.Addresses) != 0 || n.hostEntries() != before {
		t.Errorf("record %+v, host has\n%s", rec, n.hostEntries())
	}
}

// Two daemons serve a node during a rolling update. What the older has written is ours to the newer, whether it finds it by the record or was there at
// the same time; what somebody else wrote is nobody's of ours to either.
func TestWayBackOfTwoDaemons(t *testing.T) {
	for name, c := range map[string]struct {
		early, felix bool
		want         []neighbor.Source // of the IPv4 address
	}{
		"both are there when the pod starts":     {early: true, want: []neighbor.Source{neighbor.SourcePeer}},
		"the newer comes later":                  {want: []neighbor.Source{neighbor.SourcePeer}},
		"both, and Felix was before them":        {early: true, felix: true, want: []neighbor.Source{neighbor.SourceExisting}},
		"the newer later, and Felix before both": {felix: true, want: []neighbor.Source{neighbor.SourceExisting}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNodeWith(t, func(n *node) { n.returnPath = true })
			var second *Engine
			begin := func() {
				second = n.prepared()
				t.Cleanup(second.Close)
				if err := second.Start(); err != nil {
					t.Fatal(err)
				}
			}
			if c.early {
				begin()
			}
			p := n.newPod("runsc", typeGVisor).listed().cni()
			if c.felix {
				n.outside.IP("neigh replace " + pod4 + " lladdr " + p.MAC("eth0") + " dev veth0 nud permanent")
			}
			complete := func(engine *Engine) func() bool {
				return func() bool {
					list := engine.Status().Sandboxes
					return len(list) == 1 && len(list[0].ReturnPath) == 3
				}
			}
			p.ready()
			n.eventually("the way back", complete(n.engine))
			if c.early {
				n.eventually("the way back of the newer", complete(second))
			}
			p.take()
			n.awaitVerdict(record.InTime)
			if !c.early {
				begin()
			}
			for who, engine := range map[string]*Engine{"older": n.engine, "newer": second} {
				n.eventually("the way back of the "+who, complete(engine))
				if got := sources(engine.Status().Sandboxes[0], pod4); !slices.Equal(got, c.want) {
					t.Errorf("the %s says of %s: %v, want %v", who, pod4, got, c.want)
				}
			}
			n.eventually("the same on disk", func() bool {
				rec, err := n.engine.records.Load(podID)
				return err == nil && slices.Equal(sources(rec, pod4), c.want)
			})
			n.engine.Close() // the older one's end takes nothing away
			if got := n.hostEntries(); strings.Count(got, p.MAC("eth0")) != 3 {
				t.Errorf("the host has\n%s", got)
			}
			second.SandboxRemoved(podID)
			n.eventually("the way back to go", func() bool {
				got := strings.TrimSpace(n.hostEntries())
				return c.felix && strings.HasPrefix(got, pod4+" ") && !strings.Contains(got, "\n") || !c.felix && got == ""
			})
		})
	}
}

// sources are those of a record's entries on the host for an address.
func sources(rec record.Record, ip string) (list []neighbor.Source) {
	for _, e := range rec.ReturnPath {
		if e.Dst.String() == ip {
			list = append(list, e.Source)
		}
	}
	return list
}

// A daemon that was not asked for the way back does not lose what another wrote and recorded: it takes it away when the sandbox ends.
func TestWayBackOfAnotherDaemonIsTakenAway(t *testing.T) {
	n := newNode(t)
	p := n.taken()
	n.returnPath = true
	other := n.prepared()
	t.Cleanup(other.Close)
	other.remember() // before the first one writes again
	addresses := []neighbor.Address{{Addr: netip.MustParseAddr(pod4), Dev: "eth0", LLAddr: neighbor.HardwareAddr(p.MAC("eth0")), End: n.record().Ends["eth0"]}}
	s, _ := other.find(podID)
	s.update(func(r *record.Record) { r.Addresses = addresses })
	other.tend(s)
	if got := n.hostEntries(); !strings.Contains(got, pod4+" ") {
		t.Fatalf("the host has\n%s", got)
	}
	n.outside.IP("link set veth0 address " + otherMAC) // the first one writes its record
	n.awaitStale()
	if rec, err := n.engine.records.Load(podID); err != nil || len(rec.ReturnPath) != 1 {
		t.Errorf("on disk: %+v, %v", rec.ReturnPath, err)
	}
	other.Close()
	n.engine.SandboxRemoved(podID)
	n.eventually("the way back to go", func() bool { return n.hostEntries() == "" })
}

func (n *node) awaitStale() {
	n.t.Helper()
	n.eventually("the record to say that a copy is stale", func() bool {
		rec, err := n.engine.records.Load(podID)
		return err == nil && len(rec.Stale) > 0
	})
}

// Where the kernel refuses for a moment, the way back comes a moment later, and the failure is told once.
func TestWayBackThatFailedIsSetLater(t *testing.T) {
	n := newNodeWith(t, func(n *node) { n.returnPath = true })
	n.engine.Close()
	n.engine = n.prepared()
	failures := atomic.Int32{}
	n.engine.setReturnPath = func(ctx context.Context, addresses []hoststate.Address, known []hoststate.Entry) ([]hoststate.Entry, error) {
		if failures.Add(1) <= 2 {
			return known, errRefused
		}
		return hoststate.SetReturnPath(ctx, addresses, known)
	}
	if err := n.engine.Start(); err != nil {
		t.Fatal(err)
	}
	n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.eventually("the way back", func() bool { return len(n.record().ReturnPath) == 3 })
	if told := n.log.last(record.KindHostState); n.log.count(record.KindHostState) != 1 || !errors.Is(told.Err, errRefused) {
		t.Errorf("told %d times, last %v", n.log.count(record.KindHostState), told.Err)
	}
}

// On a busy node a pod is found only when CNI has finished: its namespace was made before our eyes all the same.
func TestWayBackOfAPodThatWasFoundLate(t *testing.T) {
	n := newNodeWith(t, func(n *node) { n.returnPath = true })
	p := n.newPod("runsc", typeGVisor).cni()
	p.rec.Created = time.Now().Add(time.Hour) // it is young, however long this machine takes to find it
	p.ready()                                 // in no list before
	n.eventually("the way back", func() bool { return len(n.record().ReturnPath) == 3 })
}

// One that may have run its containers before it was found may have given itself any address.
func TestNoWayBackOfAPodThatMayHaveRunBefore(t *testing.T) {
	for name, before := range map[string]func(*node, *pod){
		"begun long ago": func(_ *node, p *pod) { p.rec.Created = time.Now().Add(-time.Minute) },
		"NRI told of it while the store said nothing": func(n *node, p *pod) {
			n.store.fail(errDown)
			n.engine.SandboxStarted(t.Context(), record.Identity{ID: podID, NetNSPath: p.rec.NetNSPath})
			n.store.fail(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNodeWith(t, func(n *node) { n.returnPath = true })
			p := n.newPod("", typeGVisor).cni()
			before(n, p)
			p.ready()
			n.awaitPinned()
			if rec := n.record(); len(rec.Addresses) != 0 || len(rec.Neighbors) != 2 {
				t.Errorf("record %+v", rec)
			}
		})
	}
}
