// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// nriOnly is what NRI tells of a pod: no runtime type.
func nriOnly(p *pod) record.Identity {
	id := identify(p.rec)
	id.Runtime = ""
	return id
}

// containerd 1.7 asks with RunPodSandbox before it starts the sandbox, and has no record in the store.
func TestRuntimeThatWaitsForTheAnswer(t *testing.T) {
	fairly(t, func(t *testing.T) bool {
		n := newNode(t)
		pod := n.newPod("runsc", typeGVisor).unlisted().cni()
		began := time.Now()
		n.engine.SandboxStarted(t.Context(), nriOnly(pod))
		if time.Since(began) >= nriWait {
			return false
		}
		if got := pod.permanent(); strings.Count(got, "PERMANENT") != 2 {
			t.Fatalf("the answer is given, and the namespace has %q", got)
		}
		n.engine.mu.Lock()
		s := n.engine.sandboxes[podID]
		n.engine.mu.Unlock()
		if s == nil || !s.ahead.isOpen() {
			t.Error("the pins are not known to be ahead of the runtime")
		}
		pod.IP("address del 10.88.0.2/24 dev eth0", "address del fd00:88::2/64 dev eth0")
		if rec := n.awaitVerdict(record.InTime); rec.Runtime != typeGVisor {
			t.Errorf("runtime %q: it is asked for, as NRI does not tell", rec.Runtime)
		}
		if said := n.log.count(record.KindStoreless); said != 1 {
			t.Errorf("that the store keeps no records is said %d times", said)
		}
		return true
	})
}

func TestKernelsStackOnARuntimeWithoutRecords(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeRunc).unlisted().cni()
	n.started(nriOnly(pod))
	n.engine.ContainerCreating(t.Context(), podID)
	n.awaitVerdict(record.InTime)
}

func TestSandboxOfTheStoreIsNotSaidToHaveNoRecord(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.engine.SandboxStarted(t.Context(), nriOnly(pod))
	if said := n.log.count(record.KindStoreless); said != 0 {
		t.Errorf("that the store keeps no records is said %d times", said)
	}
}

// A sandbox from before an upgrade of containerd says nothing about new ones.
func TestSandboxThatIsTakenOverIsNotSaidToHaveNoRecord(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).unlisted().cni()
	n.takeOver(nriOnly(pod))
	if rec := n.record(); rec.Runtime != typeGVisor || len(rec.Neighbors) != 2 {
		t.Errorf("record %+v", rec)
	}
	if said := n.log.count(record.KindStoreless); said != 0 {
		t.Errorf("that the store keeps no records is said %d times", said)
	}
}

// A short margin proves something only where the runtime waited.
func TestShortMargin(t *testing.T) {
	now := time.Now()
	for name, tc := range map[string]struct {
		ahead, acked time.Time
		held         bool
		want         record.Verdict
	}{
		"the runtime waited":                   {now, now, true, record.InTime},
		"nobody waited":                        {time.Time{}, now, true, record.Unproven},
		"pinned again after the answer":        {now.Add(-time.Second), now, true, record.Unproven},
		"the runtime waited, a pin is no more": {now, now, false, record.Late},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			s := newSandbox(n.engine, record.Identity{ID: podID, Runtime: typeGVisor})
			l := &life{engine: n.engine, sandbox: s, ahead: tc.ahead, ackedAt: tc.acked, held: map[neighbor.Gateway]bool{{Dst: netip.MustParseAddr(gateway4), Dev: "eth0"}: tc.held}}
			l.decide(now.Add(minMargin / 5))
			if got := s.record().Timing.Verdict; got != tc.want {
				t.Errorf("verdict %s, want %s", got, tc.want)
			}
		})
	}
}

func TestPinAfterTheAnswerIsNotAhead(t *testing.T) {
	n := newNode(t)
	for name, tc := range map[string]struct {
		asked, takenOver, answered, ahead bool
	}{
		"asked, not answered": {asked: true, ahead: true},
		"nobody asked":        {},
		"answered already":    {asked: true, answered: true},
		"taken over":          {asked: true, takenOver: true},
	} {
		s := newSandbox(n.engine, record.Identity{ID: podID, Runtime: typeGVisor})
		s.takenOver = tc.takenOver
		if tc.answered {
			s.answered.open()
		}
		l := &life{engine: n.engine, sandbox: s, asked: tc.asked, ackedAt: time.Now()}
		l.firstPinned()
		if s.ahead.isOpen() != tc.ahead || l.ahead.IsZero() == tc.ahead {
			t.Errorf("%s: ahead is %t, want %t", name, s.ahead.isOpen(), tc.ahead)
		}
	}
}
