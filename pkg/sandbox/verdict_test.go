// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

func TestVerdictDoesNotDependOnWhenTheEngineRuns(t *testing.T) {
	for name, tc := range map[string]struct {
		between func(*pod)
		want    record.Verdict
	}{
		"nothing happens":    {func(*pod) {}, record.InTime},
		"a pin is flushed":   {func(p *pod) { p.IP("neigh del " + gateway4 + " dev eth0") }, record.Late},
		"a pin is replaced":  {func(p *pod) { p.IP("neigh replace " + gateway4 + " dev eth0 lladdr 02:00:00:00:00:99 nud permanent") }, record.Late},
		"all are flushed":    {func(p *pod) { p.IP("link set eth0 address " + p.MAC("eth0")) }, record.Late},
		"something harmless": {func(p *pod) { p.IP("link set eth0 mtu 1400") }, record.InTime},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			release := n.log.holdUp(record.KindPinned)
			t.Cleanup(release)
			pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
			n.awaitPinned()
			tc.between(pod)
			pod.take()
			// The first container comes before the engine has read any of it.
			if _, err := annotation.Parse(n.engine.ContainerCreating(t.Context(), podID)); err != nil {
				t.Errorf("annotation: %v", err)
			}
			release()
			n.awaitVerdict(tc.want)
		})
	}
}

func TestLinkThatGoesDownIsNoHandOver(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	pod.IP("link set eth0 down", "link set eth0 up", "address replace fd00:88::2/64 dev eth0 nodad",
		"route replace default via "+gateway4, "route replace default via "+gateway6)
	n.eventually("the pins to be back", func() bool { return n.log.count(record.KindRepinned) > 0 && len(n.record().Neighbors) == 2 })
	if got := n.record().Timing.Verdict; got != record.Pending {
		t.Fatalf("verdict %s before the runtime came", got)
	}
	pod.take()
	n.awaitVerdict(record.InTime)
}

func TestStackThatGivesNoSignIsUnproven(t *testing.T) {
	n := newNode(t)
	n.selects("kata*", "runsc*")
	pod := n.newPod("kata-qemu", "io.containerd.kata-qemu.v2").listed().cni().ready()
	n.awaitPinned()
	n.engine.SandboxStarted(t.Context(), identify(pod.rec))
	n.awaitVerdict(record.Unproven)
}

func TestContainerBeforeThePinIsLate(t *testing.T) {
	n := newNode(t)
	n.store.hang = true
	pod := n.newPod("runsc", typeRunc).listed()
	n.eventually("the sandbox to be found", func() bool { return n.record().ID != "" })
	came := make(chan string, 1)
	go func() { came <- n.engine.ContainerCreating(t.Context(), podID) }()
	// CNI's routes come only now: what stands then was not there when the
	// container came.
	if value := <-came; value != "" {
		if a, err := annotation.Parse(value); err != nil || len(a.Neighbors) != 0 {
			t.Errorf("annotation %q", value)
		}
	}
	pod.cni()
	nstest.Eventually(t, "a verdict", func() bool { return n.record().Timing.Verdict != record.Pending })
	if got := n.record().Timing.Verdict; got == record.InTime {
		t.Errorf("verdict %s", got)
	}
}

func TestTakenWhileNobodyWatchedIsUnproven(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	n.engine.Close()
	pod.take()
	n.start()
	rec := n.awaitVerdict(record.Unproven)
	if len(rec.Neighbors) != 2 || n.engine.ContainerCreating(t.Context(), podID) == "" {
		t.Errorf("what was pinned is forgotten: %+v", rec)
	}
}

func TestLateEngineDoesNotSpoilTheOthersRecord(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	pod.take()
	n.awaitVerdict(record.InTime)
	n.eventually("the verdict to be on disk", func() bool {
		rec, err := n.engine.records.Load(podID)
		return err == nil && rec.Timing.Verdict == record.InTime
	})
	options := n.options()
	second, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Close)
	// It meets the sandbox before the other's record is there, and finds it taken.
	s := newSandbox(n.engine, identify(pod.rec))
	s.selected = selection.Choice{Pin: true, Annotate: true}
	s.update(func(r *record.Record) {
		r.NetNS = record.NetNS{Path: pod.rec.NetNSPath, Cookie: pod.Cookie()}
		r.Phase, r.Annotated, r.Timing = record.Started, true, record.Timing{Verdict: record.Late}
	})
	second.save(s)
	rec, err := n.engine.records.Load(podID)
	if err != nil || rec.Timing.Verdict != record.InTime || len(rec.Neighbors) != 2 {
		t.Errorf("record %+v, %v", rec, err)
	}
	if _, err := annotation.Parse(second.annotation(s.record())); err != nil {
		t.Errorf("the late one's annotation: %v", err)
	}
	// A record that was removed stays so, whoever was about to write it.
	second.removeRecord(s)
	second.save(s)
	if rec, err := n.engine.records.Load(podID); err == nil {
		t.Errorf("record is back: %+v", rec)
	}
}

func TestNothingToPinIsSaid(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).listed()
	n.veth(pod.NS, "veth0")
	pod.IP("address add 10.88.0.2/24 dev eth0")
	pod.ready()
	n.awaitPinned()
	a, err := annotation.Parse(n.engine.ContainerCreating(t.Context(), podID))
	if err != nil || len(a.Neighbors) != 0 {
		t.Errorf("annotation %+v, %v", a, err)
	}
	pod.IP("address del 10.88.0.2/24 dev eth0")
	n.awaitVerdict(record.Nothing)
}

func TestHandlersStayWithinNRIsTimeout(t *testing.T) {
	fairly(t, func(t *testing.T) bool {
		n := newNode(t)
		n.store.hang = true
		path := nstest.New(t).Mount()
		var ids []record.Identity
		for i := range 5 {
			ids = append(ids, record.Identity{ID: fmt.Sprintf("feed%d", i), NetNSPath: path})
		}
		began := time.Now()
		n.engine.TakeOver(t.Context(), ids)
		n.engine.SandboxStarted(t.Context(), record.Identity{ID: "beef", NetNSPath: path})
		took := time.Since(began)
		if n.engine.hasOwner(path) {
			t.Error("a pod of the default runtime is given up although its type is not known")
		}
		// The runtime drops a plugin that takes two seconds for one.
		t.Logf("two handlers took %s while the store hung", took)
		return took <= 4*time.Second
	})
}

func TestRecordOfAnotherNamespaceIsNotTaken(t *testing.T) {
	n := newNode(t)
	other := nstest.New(t)
	rec := atRest(t)
	rec.NetNS.Cookie = other.Cookie()
	if err := n.engine.records.Save(rec); err != nil {
		t.Fatal(err)
	}
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	if got := n.record(); got.NetNS.Cookie != pod.Cookie() || got.Timing.Verdict != record.Pending {
		t.Errorf("record %+v", got)
	}
	if !netns.Exists(pod.rec.NetNSPath, pod.Cookie()) {
		t.Error("the pod's namespace is not there")
	}
}

func TestMarginIsMeasuredWhenTheEventComes(t *testing.T) {
	n := newNode(t)
	release := n.log.holdUp(record.KindPinned)
	t.Cleanup(release)
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	pod.take()
	taken := time.Now()
	// Long, so that it is told apart from a moment in which whoever reads the event has no processor.
	const held = time.Second
	n.eventually("some time to pass", func() bool { return time.Since(taken) > held })
	release()
	rec := n.awaitVerdict(record.InTime)
	if real := taken.Sub(rec.Timing.PinnedAt).Seconds() * 1000; rec.Timing.MarginMs > real+held.Seconds()*1000/2 {
		t.Errorf("margin %.1f ms, but the runtime came %.1f ms after the pin", rec.Timing.MarginMs, real)
	}
}

func TestFailureIsNotNothing(t *testing.T) {
	n := newNode(t)
	n.engine.opts.MaxNeighbors = 16
	pod := n.newPod("runsc", typeRunc).listed()
	pod.cni()
	s := newSandbox(n.engine, identify(pod.rec))
	s.selected = selection.Choice{Pin: true}
	l := &life{engine: n.engine, sandbox: s}
	s.update(func(r *record.Record) { r.NetNS = record.NetNS{Path: pod.rec.NetNSPath, Cookie: pod.Cookie()} })
	n.engine.fail(s, errDown)
	l.conclude(record.Unproven, 0)
	if got := s.record().Timing.Verdict; got != record.Unproven {
		t.Errorf("verdict %s after %v", got, errDown)
	}
	// Synchronize tries what failed again.
	s.finish()
	n.engine.mu.Lock()
	n.engine.sandboxes[podID] = s
	n.engine.mu.Unlock()
	n.takeOver(identify(pod.rec))
	rec := s.record()
	if len(rec.Neighbors) != 2 || rec.Error != "" {
		t.Errorf("after Synchronize: %+v", rec)
	}
}

func TestBrokenRecordOfATakenSandboxIsNoVerdictOfLate(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	pod.take()
	n.awaitVerdict(record.InTime)
	n.engine.Close()
	path := filepath.Join(n.stateDir, "sandboxes", podID+".json")
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	n.start()
	if rec := n.awaitVerdict(record.Unproven); rec.Error == "" {
		t.Error("the loss is not said")
	}
}

// A look at the wrong moment finds the pins gone that the runtime has just taken.
func TestPinsThatTheRuntimeTookUnderALookWereInTime(t *testing.T) {
	for name, tc := range map[string]struct {
		events []neighbor.Event
		want   record.Verdict
	}{
		"taken with its address": {nil, record.InTime},
		"lost and written again": {[]neighbor.Event{
			{Kind: neighbor.NeighborRemoved, Dst: netip.MustParseAddr(gateway4), Dev: "eth0"},
			{Kind: neighbor.NeighborChanged, Dst: netip.MustParseAddr(gateway4), Dev: "eth0", LLAddr: otherMAC, State: []string{"PERMANENT"}},
		}, record.InTime},
		"lost": {[]neighbor.Event{{Kind: neighbor.NeighborRemoved, Dst: netip.MustParseAddr(gateway4), Dev: "eth0"}}, record.Late},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			s := newSandbox(n.engine, record.Identity{ID: podID, Runtime: typeGVisor})
			key := map[neighbor.Gateway]bool{{Dst: netip.MustParseAddr(gateway4), Dev: "eth0"}: true}
			l := &life{engine: n.engine, sandbox: s, held: key, stood: key, down: map[string]bool{}, ackedAt: time.Now().Add(-time.Second)}
			pin := neighbor.Neighbor{Dst: netip.MustParseAddr(gateway4), Dev: "eth0", LLAddr: otherMAC, Source: neighbor.SourcePeer}
			rec := record.Record{Neighbors: []neighbor.Neighbor{pin}, CapturedAt: time.Now(), Timing: record.Timing{Verdict: record.Pending}}
			s.update(func(r *record.Record) { *r = rec })
			l.wrote(rec, rec.Neighbors, neighbor.Written{Neighbors: rec.Neighbors, New: rec.Neighbors})
			taken := time.Now().Add(2 * minMargin)
			if _, took := l.observe(append(tc.events, neighbor.Event{Kind: neighbor.AddrRemoved, Dev: "eth0", Global: true})); !took {
				t.Fatal("the hand-over was not seen")
			}
			l.decide(taken)
			if got := s.record().Timing; got.Verdict != tc.want {
				t.Errorf("%+v, want %s", got, tc.want)
			}
		})
	}
}
