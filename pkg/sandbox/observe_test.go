// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/observe"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// observing is a node that observes with the real program.
func observing(t *testing.T) (*node, *observe.Observer) {
	t.Helper()
	o, err := observe.New()
	if err != nil {
		t.Fatal(err)
	}
	n := newNodeWith(t, func(n *node) { n.observer = o })
	t.Cleanup(func() {
		n.engine.Close()
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return n, o
}

// ask sends an ARP request for an address from the pod's link, as a network stack
// in the sandbox does that has no other way.
func (p *pod) ask(dst string) {
	p.node.t.Helper()
	target := netip.MustParseAddr(dst).As4()
	frame := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 88, 0, 2, 0, 0, 0, 0, 0, 0}
	frame = append(frame, target[:]...)
	p.Send("eth0", frame)
}

// counted waits until the status says how much was counted for the one pod.
func (n *node) counted(gateways, others uint64) *record.Observed {
	n.t.Helper()
	var o *record.Observed
	n.eventually("the pod to be observed, and its questions to be counted", func() bool {
		o = n.record().Observed
		return o != nil && o.Gateways == gateways && o.Others == others
	})
	return o
}

func TestATakenSandboxIsObservedUntilItIsGone(t *testing.T) {
	n, o := observing(t)
	began := time.Now()
	p := n.taken()
	if since := n.counted(0, 0).Since; since.Before(began) || since.After(time.Now()) {
		t.Errorf("observed since %v", since)
	}
	p.ask(gateway4)
	p.ask("10.88.0.7")
	p.ask("10.88.0.8")
	n.counted(1, 2)
	p.remove()
	n.eventually("the sandbox to be forgotten", func() bool {
		_, _, since := o.Observed(podID)
		return since.IsZero()
	})
	if got := o.Totals(); got != (observe.Counts{Gateways: 1, Others: 2}) {
		t.Errorf("total %+v, want what was counted before", got)
	}
	if rec, err := n.engine.records.Load(podID); err == nil && rec.Observed != nil {
		t.Error("counts are kept on disk")
	}
}

// The link that leads to the host is another one by now, also in a namespace that a runtime has taken.
func TestANewOtherEndIsObserved(t *testing.T) {
	for name, begin := range map[string]func(*node) *pod{"the kernel's stack": (*node).running, "a copy": (*node).taken} {
		t.Run(name, func(t *testing.T) {
			n, _ := observing(t)
			p := begin(n)
			n.counted(0, 0)
			p.ask(gateway4)
			n.counted(1, 0)
			n.outside.IP("link del veth0")
			p.cni()
			n.eventually("questions to be counted at the new end", func() bool {
				p.ask(gateway4)
				o := n.record().Observed
				return o != nil && o.Gateways > 1
			})
		})
	}
}

// A new process counts anew, for the sandboxes of the old one as well.
func TestALaterProcessObserves(t *testing.T) {
	n, _ := observing(t)
	p := n.taken()
	n.counted(0, 0)
	p.ask("10.88.0.7")
	n.counted(0, 1)
	n.engine.Close()
	later, err := observe.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = later.Close() }()
	n.observer = later
	n.start()
	n.engine.TakeOver(t.Context(), []record.Identity{{ID: podID, Name: "web", Namespace: "shop", UID: "u1", Handler: "runsc", Runtime: typeGVisor, NetNSPath: p.rec.NetNSPath}})
	n.counted(0, 0)
	p.ask(gateway4)
	n.counted(1, 0)
}

// blind is an observer that fails, as one does whose rights were taken away.
type blind struct {
	mu        sync.Mutex
	asked     int
	forgotten int
	during    func() // called while it observes
}

var errBlind = errors.New("the test's observer sees nothing")

func (b *blind) Observe(string, map[int]map[netip.Addr]bool, func(int) (bool, error)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if b.during != nil {
		b.during()
	}
	return errBlind
}

func (b *blind) Forget(string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgotten++
}

func (*blind) Observed(string) (uint64, uint64, time.Time) { return 0, 0, time.Time{} }

func (b *blind) calls() (asked, forgotten int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked, b.forgotten
}

func TestASandboxThatCannotBeObservedIsPinned(t *testing.T) {
	b := &blind{}
	n := newNodeWith(t, func(n *node) { n.observer, n.compare = b, 20*time.Millisecond })
	n.running()
	n.eventually("several looks", func() bool { asked, _ := b.calls(); return asked > 2 })
	if got := n.log.count(record.KindUnobserved); got != 1 {
		t.Errorf("told %d times, want once", got)
	}
	if rec := n.awaitVerdict(record.InTime); rec.Observed != nil || rec.Error != "" || len(rec.Neighbors) != 2 {
		t.Errorf("record %+v", rec)
	}
}

// A sandbox ends while it is begun to be observed: whoever comes last ends that.
func TestAnEndDuringTheFirstLook(t *testing.T) {
	b := &blind{}
	n := newNodeWith(t, func(n *node) { n.observer = b })
	b.during = func() { n.engine.SandboxRemoved(podID) }
	p := n.newPod("", typeRunc)
	p.rec.Annotations = map[string]string{selection.PinAnnotation: "true"}
	p.listed().cni().ready()
	n.awaitPinned()
	n.engine.ContainerCreating(t.Context(), podID)
	n.eventually("both to end it", func() bool { _, forgotten := b.calls(); return forgotten == 2 })
	if asked, _ := b.calls(); asked != 1 || n.log.count(record.KindUnobserved) != 0 {
		t.Errorf("asked %d times, told %d times; want once and never", asked, n.log.count(record.KindUnobserved))
	}
}
