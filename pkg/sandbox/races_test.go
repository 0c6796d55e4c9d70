// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// The namespace's end falls between the reading of the records and the first list
// of the directory: no watcher tells of a file that it never saw.
func TestNamespaceThatGoesBetweenRecordsAndWatcher(t *testing.T) {
	for name, phase := range map[string]record.Phase{"started": record.Started, "starting": record.Starting} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t) // whose slow comparison comes in an hour
			pod := n.newPod("", typeRunc)
			pod.rec.Annotations = map[string]string{selection.PinAnnotation: "true"}
			pod.listed().cni().ready()
			n.awaitPinned()
			if phase == record.Started {
				pod.run()
			}
			n.engine.Close()
			n.engine = n.prepared()
			n.engine.remember()
			if rec, err := n.engine.records.Load(podID); err != nil || rec.Phase != phase {
				t.Fatalf("record %+v, %v; want phase %s", rec, err, phase)
			}
			pod.remove()
			n.store.remove(podID)
			if err := n.engine.watch(); err != nil {
				t.Fatal(err)
			}
			n.eventually("the sandbox to be forgotten", func() bool {
				_, err := n.engine.records.Load(podID)
				return err != nil && n.recordOf(podID).ID == "" && n.log.count(record.KindReleased) == 1
			})
		})
	}
}

// A sandbox is stopped at the moment when its life hands it to the guard, or when
// a runtime that connects again lists it: nothing of it is repaired any more.
func TestStoppedSandboxComesBackIntoNobodysCare(t *testing.T) {
	n := newNode(t)
	n.running()
	s, _ := n.engine.find(podID)
	n.engine.SandboxStopped(podID)
	n.engine.guard.Take(s.ward, guard.Event)
	select {
	case <-n.engine.guard.Check(guard.Event, s.ward):
	case <-t.Context().Done():
		t.Error("who waits for its comparison waits for ever")
	}
	if state, cares := n.engine.guard.State(s.ward); cares {
		t.Errorf("the guard has it again: %+v", state)
	}
}

// Two containers are asked about at once, before and after a verdict: the words
// of the one that was admitted stand, whoever writes last.
func TestAdmissionOfTwoAtOnce(t *testing.T) {
	n := enforcing(t)
	for range 1000 {
		s := newSandbox(n.engine, record.Identity{ID: podID, Runtime: typeRunc})
		s.rec.NetNS = record.NetNS{Path: "/none", Cookie: 1}
		s.rec.Error = "not yet"
		s.removed = true // no file is written
		s.finish()
		var both sync.WaitGroup
		for range 4 {
			both.Go(func() { _ = n.engine.admit(s, RefusedError{Container: true}) })
		}
		s.update(func(r *record.Record) { r.Error, r.CapturedAt = "", time.Now() })
		both.Wait()
		if rec := s.record(); s.admitted.isOpen() != (rec.Refused == "") {
			t.Fatalf("admitted %v, and the record says refused for %q", s.admitted.isOpen(), rec.Refused)
		}
	}
}

// Another process has the stronger proof. What this one found since its record
// was copied for the file is not lost by taking that over.
func TestStrongerProofOfAnotherProcessTakesNothingFromAComparisonUnderWay(t *testing.T) {
	n := newNode(t)
	n.running()
	s, _ := n.engine.find(podID)
	disk, err := n.engine.records.Load(podID)
	if err != nil {
		t.Fatal(err)
	}
	s.update(func(r *record.Record) { r.Timing = record.Timing{Verdict: record.Unproven} })
	now := slices.Clone(disk.Neighbors)
	now[0].LLAddr = otherMAC
	err = n.engine.records.Merge(s.record(), func(old, rec record.Record) record.Record {
		s.update(func(r *record.Record) { r.Neighbors = now }) // a comparison, in between
		return s.stronger(old, rec)
	})
	if err != nil {
		t.Fatal(err)
	}
	rec := s.record()
	if rec.Timing != disk.Timing || !slices.ContainsFunc(rec.Neighbors, func(n neighbor.Neighbor) bool { return n.LLAddr == otherMAC }) {
		t.Errorf("record %+v", rec)
	}
}

// The namespace of one sandbox is gone, its last comparison says so late, and its
// number is another's by now, whose events must not be taken for the other's.
func TestNumberOfANamespaceThatIsAnothersByNow(t *testing.T) {
	n := newNode(t)
	p := n.running()
	s, _ := n.engine.find(podID)
	g := n.engine.guard
	late := newSandbox(n.engine, record.Identity{ID: "gone"})
	late.rec.NetNS = record.NetNS{Path: n.netnsDir + "/gone", Cookie: 1}
	state, _ := g.State(s.ward)
	g.Watch(late.ward)
	g.Base(late.ward, guard.Basis{NSID: state.Basis.NSID, Numbered: true})
	g.Take(late.ward, guard.Event)
	n.eventually("the number to be its namespace's", func() bool {
		its, _ := g.State(s.ward)
		others, _ := g.State(late.ward)
		return its.Heard && its.Basis.NSID == state.Basis.NSID && !others.Heard && !others.Due
	})
	p.IP("neigh del " + gateway4 + " dev eth0")
	n.eventually("the pin to be back", func() bool { return n.log.count(record.KindRepinned) > 0 })
}

// Another look comes before the event of the first writing was read: that event's
// place among the others decides, and what the second look found changes nothing.
func TestSecondLookBeforeTheEventsOfTheFirst(t *testing.T) {
	gateway := netip.MustParseAddr(gateway4)
	pinned := neighbor.Event{Kind: neighbor.NeighborChanged, Dst: gateway, Dev: "eth0", LLAddr: otherMAC, State: []string{"PERMANENT"}}
	removed := neighbor.Event{Kind: neighbor.NeighborRemoved, Dst: gateway, Dev: "eth0"}
	taken := neighbor.Event{Kind: neighbor.AddrRemoved, Dev: "eth0", Global: true}
	for name, tc := range map[string]struct {
		gone   bool // at the second look, which writes again
		events []neighbor.Event
		want   record.Verdict
		first  bool // the margin counts from the first writing
	}{
		"taken after the pin, which goes with the address": {true, []neighbor.Event{pinned, taken}, record.InTime, true},
		"taken after the pin":                              {false, []neighbor.Event{pinned, taken}, record.InTime, true},
		"taken before the pin":                             {false, []neighbor.Event{taken}, record.Late, true},
		"taken before the pin, which is written again":     {true, []neighbor.Event{taken}, record.Late, true},
		"lost before it was taken":                         {true, []neighbor.Event{pinned, removed, pinned, taken}, record.InTime, false},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			s := newSandbox(n.engine, record.Identity{ID: podID, Runtime: typeGVisor})
			l := &life{engine: n.engine, sandbox: s, held: map[neighbor.Gateway]bool{}, down: map[string]bool{}}
			pins := []neighbor.Neighbor{{Dst: gateway, Dev: "eth0", LLAddr: otherMAC, Source: neighbor.SourcePeer}}
			l.wrote(s.record(), pins, neighbor.Written{Neighbors: pins, New: pins})
			first := l.ackedAt
			s.update(func(r *record.Record) { r.Neighbors, r.CapturedAt = pins, first })
			again := neighbor.Written{Neighbors: pins}
			if tc.gone {
				again.New = pins
			}
			l.wrote(s.record(), pins, again)
			if _, took := l.observe(tc.events); !took {
				t.Fatal("the hand-over was not seen")
			}
			if l.ackedAt.Equal(first) != tc.first {
				t.Errorf("acknowledged %s after the first writing", l.ackedAt.Sub(first))
			}
			l.decide(time.Now().Add(2 * minMargin))
			if got := s.record().Timing; got.Verdict != tc.want {
				t.Errorf("%+v, want %s", got, tc.want)
			}
		})
	}
}
