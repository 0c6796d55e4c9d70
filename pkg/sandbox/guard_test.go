// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

const (
	otherMAC   = "02:00:00:00:12:34"
	foreignMAC = "02:00:00:00:00:99"
)

// running is a pod on the kernel's stack whose first container has come.
func (n *node) running() *pod {
	n.t.Helper()
	p := n.newPod("", typeRunc)
	p.rec.Annotations = map[string]string{selection.PinAnnotation: "true"}
	p.listed().cni().ready()
	n.awaitPinned()
	p.run()
	return p
}

// run has the first container come, and waits for the guard.
func (p *pod) run() {
	n := p.node
	n.t.Helper()
	n.engine.ContainerCreating(n.t.Context(), p.rec.ID)
	n.settled(p.rec.ID)
}

// settled waits until the guard has a sandbox and nothing is to be done for it.
func (n *node) settled(id string) {
	n.t.Helper()
	n.eventually("the guard to have "+id, func() bool {
		s, _ := n.engine.find(id)
		if s == nil || !s.settled() {
			return false
		}
		state, cares := n.engine.guard.State(s.ward)
		return cares && !state.Living && !state.Due && state.Basis.Numbered
	})
}

// taken is a pod that gVisor has taken.
func (n *node) taken() *pod {
	n.t.Helper()
	p := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	p.take()
	n.awaitVerdict(record.InTime)
	n.settled(podID)
	return p
}

// annotated is what a container to come would be told.
func (n *node) annotated() map[string]string {
	n.t.Helper()
	a, err := annotation.Parse(n.engine.ContainerCreating(n.t.Context(), podID))
	if err != nil {
		n.t.Fatal(err)
	}
	told := make(map[string]string)
	for _, entry := range a.Neighbors {
		told[entry.Dst.String()] = string(entry.LLAddr)
	}
	return told
}

func (n *node) awaitEvent(kind record.Kind) record.Event {
	n.t.Helper()
	n.eventually("event "+string(kind), func() bool { return n.log.count(kind) > 0 })
	return n.log.last(kind)
}

func TestGuardRepairsWhatHappensToAPinByItsEvent(t *testing.T) {
	for name, drift := range map[string]func(*pod){
		"removed":  func(p *pod) { p.IP("neigh del " + gateway4 + " dev eth0") },
		"demoted":  func(p *pod) { p.IP("neigh replace " + gateway4 + " dev eth0 lladdr " + foreignMAC + " nud reachable") },
		"replaced": func(p *pod) { p.IP("neigh replace " + gateway6 + " dev eth0 lladdr " + foreignMAC + " nud permanent") },
		"its link's address set": func(p *pod) {
			p.IP("link set eth0 address " + p.MAC("eth0"))
		},
		"its link taken down and up": func(p *pod) {
			p.IP("link set eth0 down", "link set eth0 up", "address replace fd00:88::2/64 dev eth0 nodad",
				"route replace default via "+gateway4, "route replace default via "+gateway6)
		},
		"its link taken down and up, and no route put back": func(p *pod) { p.IP("link set eth0 down", "link set eth0 up") },
		"its address removed and added": func(p *pod) {
			p.IP("address del 10.88.0.2/24 dev eth0", "address add 10.88.0.2/24 dev eth0", "route replace default via "+gateway4)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t) // whose slow comparison comes in an hour
			p := n.running()
			drift(p)
			mac := n.outside.MAC("veth0")
			n.eventually("both pins to be as they were", func() bool {
				return strings.Count(p.permanent(), "lladdr "+mac+" PERMANENT") == 2 && n.log.count(record.KindRepinned) > 0
			})
			n.settled(podID)
			if rec := n.record(); len(rec.Neighbors) != 2 || len(rec.Skipped) != 0 || rec.Repins == 0 || rec.Missed != 0 {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

func TestGuardFollowsAChangedOtherEnd(t *testing.T) {
	n := newNode(t)
	p := n.running()
	before := n.annotated()
	n.outside.IP("link set veth0 address " + otherMAC) // as udev does
	n.eventually("the pins to follow", func() bool { return strings.Count(p.permanent(), otherMAC) == 2 })
	n.settled(podID)
	if after := n.annotated(); after[gateway4] != otherMAC || before[gateway4] == otherMAC {
		t.Errorf("annotation before %v, after %v", before, after)
	}
	if rec := n.record(); rec.Repins != 1 || n.log.count(record.KindRepinned) != 1 {
		t.Errorf("%d repins, told %d times, want one of both", rec.Repins, n.log.count(record.KindRepinned))
	}
}

func TestHostEventsReachALife(t *testing.T) {
	n := newNode(t)
	p := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	n.outside.IP("link set veth0 address " + otherMAC) // nothing happens inside the pod
	n.eventually("the pins to follow", func() bool { return strings.Count(p.permanent(), otherMAC) == 2 })
	p.take()
	if rec := n.awaitVerdict(record.InTime); rec.Repins != 1 {
		t.Errorf("%d repins", rec.Repins)
	}
}

// bridged is a running pod whose gateways a bridge of the host holds.
func (n *node) bridged() *pod {
	n.t.Helper()
	n.bridge()
	p := n.newPod("", typeRunc)
	p.rec.Annotations = map[string]string{selection.PinAnnotation: "true"}
	p.listed().cni()
	n.outside.IP("link set veth0 master br0")
	p.ready()
	n.awaitPinned()
	p.run()
	return p
}

func (n *node) bridge() {
	n.t.Helper()
	n.outside.IP("link add br0 type bridge", "link set br0 up",
		"address add "+gateway4+"/24 dev br0", "address add "+gateway6+"/64 dev br0 nodad")
	n.t.Cleanup(func() { n.outside.IP("link del br0") })
}

func TestGuardWithdrawsWhatLostItsTruthAndPinsItWhenItIsBack(t *testing.T) {
	n := newNode(t)
	p := n.bridged()
	if rec := n.record(); rec.Neighbors[0].Source != neighbor.SourcePort {
		t.Fatalf("record %+v", rec)
	}
	n.outside.IP("address del " + gateway4 + "/24 dev br0") // as a virtual IP that moves to another host
	event := n.awaitEvent(record.KindWithdrawn)
	if len(event.Changes) != 1 || event.Changes[0].Dst.String() != gateway4 || event.Changes[0].Reason != neighbor.ReasonRouterBeyondBridge {
		t.Errorf("told %+v", event.Changes)
	}
	n.settled(podID)
	if got := p.permanent(); strings.Contains(got, gateway4+" ") || !strings.Contains(got, gateway6) {
		t.Errorf("entries %q", got)
	}
	if told := n.annotated(); told[gateway4] != "" || told[gateway6] == "" {
		t.Errorf("annotation %v", told)
	}
	if rec := n.record(); len(rec.Skipped) != 1 || rec.Skipped[0].Reason != neighbor.ReasonRouterBeyondBridge {
		t.Errorf("record %+v", rec)
	}
	n.outside.IP("address add " + gateway4 + "/24 dev br0")
	n.eventually("the pin to be back", func() bool { return strings.Contains(p.permanent(), gateway4+" ") })
	n.settled(podID)
	if rec := n.record(); len(rec.Skipped) != 0 || n.annotated()[gateway4] == "" || n.log.count(record.KindWithdrawn) != 1 {
		t.Errorf("record %+v", rec)
	}
}

func TestGuardGivesUpAGatewayThatSomebodyInsistsOn(t *testing.T) {
	n := newNode(t)
	p := n.running()
	mac := n.outside.MAC("veth0")
	for range insistence - 1 {
		p.IP("neigh replace " + gateway4 + " dev eth0 lladdr " + foreignMAC + " nud permanent")
		n.eventually("the pin to be put back", func() bool { return strings.Count(p.permanent(), mac) == 2 })
		n.settled(podID)
	}
	p.IP("neigh replace " + gateway4 + " dev eth0 lladdr " + foreignMAC + " nud permanent")
	event := n.awaitEvent(record.KindInsists)
	if len(event.Changes) != 1 || event.Changes[0].Was != neighbor.HardwareAddr(mac) {
		t.Errorf("told %+v", event.Changes)
	}
	for range 3 {
		p.IP("neigh replace "+gateway4+" dev eth0 lladdr 02:00:00:00:00:98 nud permanent", "neigh replace "+gateway4+" dev eth0 lladdr "+foreignMAC+" nud permanent")
		<-n.engine.guard.Check(guard.Event, wards(n.all())...)
	}
	if !strings.Contains(p.permanent(), gateway4+" dev eth0 lladdr "+foreignMAC) {
		t.Errorf("entries %q", p.permanent())
	}
	if told := n.annotated(); told[gateway4] != "" || told[gateway6] == "" {
		t.Errorf("annotation %v", told)
	}
	if rec := n.record(); n.log.count(record.KindInsists) != 1 || n.log.count(record.KindWithdrawn) != 0 || len(rec.Skipped) != 1 || rec.Skipped[0].Reason != record.ReasonInsists {
		t.Errorf("told %d times; record %+v", n.log.count(record.KindInsists), rec)
	}
	// Only a slow comparison that finds the entry gone ends it.
	p.IP("neigh del " + gateway4 + " dev eth0")
	<-n.engine.guard.Check(guard.Event, wards(n.all())...)
	if strings.Contains(p.permanent(), gateway4+" ") {
		t.Error("pinned again at once")
	}
	n.slowly()
	n.eventually("the pin to be back", func() bool { return strings.Contains(p.permanent(), gateway4+" dev eth0 lladdr "+mac) })
}

// all are the sandboxes that the engine knows.
func (n *node) all() (list []*sandbox) {
	n.engine.mu.Lock()
	defer n.engine.mu.Unlock()
	for _, s := range n.engine.sandboxes {
		list = append(list, s)
	}
	return list
}

// slowly has the slow comparison come now.
func (n *node) slowly() {
	n.engine.guard.All(guard.Slow)
}

func TestAQuietSlowComparisonForgivesAForeignEntry(t *testing.T) {
	n := newNode(t)
	p := n.running()
	mac := n.outside.MAC("veth0")
	for range 2 * insistence {
		p.IP("neigh replace " + gateway4 + " dev eth0 lladdr " + foreignMAC + " nud permanent")
		n.eventually("the pin to be put back", func() bool { return strings.Count(p.permanent(), mac) == 2 })
		n.settled(podID)
		n.slowly()
		n.settled(podID)
	}
	if n.log.count(record.KindInsists) != 0 {
		t.Error("given up")
	}
}

func TestGuardReportsAnOwnersEntryThatStopsBeingTrueAndLeavesIt(t *testing.T) {
	n := newNode(t)
	p := n.newPod("", typeRunc)
	p.rec.Annotations = map[string]string{selection.PinAnnotation: "true"}
	p.listed().cni()
	p.IP("neigh add " + gateway4 + " dev eth0 lladdr " + n.outside.MAC("veth0") + " nud permanent") // CNI's own, as Amazon's
	p.ready()
	n.awaitPinned()
	p.run()
	before := p.Output("neigh", "show", gateway4)
	n.outside.IP("link set veth0 address " + otherMAC)
	n.eventually("our own pin to follow", func() bool { return strings.Contains(p.permanent(), otherMAC) })
	n.settled(podID)
	if got := p.Output("neigh", "show", gateway4); got != before {
		t.Errorf("the owner's entry was changed from %q to %q", before, got)
	}
	if rec := n.record(); len(rec.Skipped) != 1 || rec.Skipped[0].Reason != neighbor.ReasonContested || n.log.count(record.KindWithdrawn) != 1 {
		t.Errorf("record %+v", rec)
	}
	if told := n.annotated(); told[gateway4] != "" || told[gateway6] != otherMAC {
		t.Errorf("annotation %v", told)
	}
	p.IP("neigh replace " + gateway4 + " dev eth0 lladdr " + otherMAC + " nud permanent") // the owner has noticed
	n.eventually("the entry to count again", func() bool { return n.annotated()[gateway4] == otherMAC })
	if rec := n.record(); rec.Neighbors[0].Source != neighbor.SourceExisting {
		t.Errorf("record %+v", rec)
	}
}

// What a program does that takes the pod's link into a namespace of its own: the
// neighbors are what it needs there.
func TestLinkThatLeavesTheSandboxTakesNothingFromTheAnnotation(t *testing.T) {
	n := newNode(t)
	p := n.running()
	before := n.annotated()
	interior := n.newPodAs("interior", "runc", typeRunc)
	p.IP("link set eth0 netns " + interior.Ref())
	n.slowly()
	n.settled(podID)
	<-n.engine.guard.Check(guard.Event, wards(n.all())...)
	if after := n.annotated(); len(after) != 2 || after[gateway4] != before[gateway4] {
		t.Errorf("annotation before %v, after %v", before, after)
	}
	if n.log.count(record.KindWithdrawn) != 0 {
		t.Error("told as withdrawn")
	}
}

func TestSlowComparisonFindsAndCountsWhatNoEventAnnounced(t *testing.T) {
	n := newNodeWith(t, func(n *node) {
		n.compare = 50 * time.Millisecond
		n.watch = func() (guard.HostWatcher, error) { return nil, errNotPermitted }
	})
	p := n.running()
	if err := n.awaitEvent(record.KindHost).Err; err == nil {
		t.Error("nobody was told that events cannot be heard")
	}
	p.IP("neigh del " + gateway4 + " dev eth0")
	n.eventually("the pin to be back", func() bool { return strings.Contains(p.permanent(), gateway4+" ") })
	n.eventually("the find to be counted", func() bool { return n.record().Missed == 1 })
	if status := n.engine.Status(); status.HostHeard || status.HostError == nil || n.log.count(record.KindHost) != 1 {
		t.Errorf("status %+v, told %d times", status, n.log.count(record.KindHost))
	}
}

func TestSandboxesOfAnEarlierProcessAreComparedWhenTheEngineStarts(t *testing.T) {
	n := newNode(t)
	p := n.running()
	n.engine.Close()
	n.outside.IP("link set veth0 address " + otherMAC)
	n.start()
	n.eventually("the pins to follow", func() bool { return strings.Count(p.permanent(), otherMAC) == 2 })
	n.settled(podID)
	n.outside.IP("link set veth0 address " + foreignMAC)
	n.eventually("the pins to follow an event", func() bool { return strings.Count(p.permanent(), foreignMAC) == 2 })
}

func TestStoppedSandboxIsLeftAlone(t *testing.T) {
	n := newNode(t)
	p := n.running()
	n.engine.SandboxStopped(podID)
	p.IP("neigh del " + gateway4 + " dev eth0")
	n.slowly()
	n.eventually("the guard to have let go", func() bool { return len(n.engine.guard.Wards()) == 0 })
	if strings.Contains(p.permanent(), gateway4+" ") {
		t.Error("repaired after its end")
	}
}

// What is heard and what it leads to is counted.
func TestMessagesAndLooksAreCounted(t *testing.T) {
	n := newNode(t)
	p := n.running()
	n.settled(podID)
	before := n.engine.Status()
	p.IP("neigh del " + gateway4 + " dev eth0")
	n.eventually("the pin to be back", func() bool { return strings.Contains(p.permanent(), gateway4+" ") })
	n.eventually("messages and a look to be counted", func() bool {
		after := n.engine.Status()
		return after.HostMessages > before.HostMessages && after.Looks[record.CauseEvent] > before.Looks[record.CauseEvent]
	})
}
