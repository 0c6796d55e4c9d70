// SPDX-License-Identifier: Apache-2.0

package record

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

const (
	first4, second4, open4 = "10.0.0.1", "10.0.0.2", "10.0.0.3"
	firstMAC, secondMAC    = "02:00:00:00:00:01", "02:00:00:00:00:02"
)

// pin is a neighbor as it is captured.
func pin(dst, dev string, lladdr neighbor.HardwareAddr) neighbor.Neighbor {
	ip := netip.MustParseAddr(dst)
	return neighbor.Neighbor{Dst: ip, Dev: dev, LLAddr: lladdr, Family: neighbor.FamilyOf(ip), State: []string{annotation.StatePermanent}, Source: neighbor.SourcePeer}
}

func open(dst string, reason neighbor.Reason) neighbor.Skipped {
	return neighbor.Skipped{Dst: netip.MustParseAddr(dst), Dev: "eth0", Reason: reason, Message: "why"}
}

// captured is what most tests begin with: two gateways that are pinned, and one that is not.
func captured() neighbor.Written {
	return neighbor.Written{
		Neighbors: []neighbor.Neighbor{pin(first4, "eth0", firstMAC), pin(second4, "eth0", secondMAC)},
		Skipped:   []neighbor.Skipped{open(open4, neighbor.ReasonPeerGone)},
	}
}

// The annotation tells when the neighbors came to be what they are: looking at them again changes no byte of it.
func TestWhatIsCapturedKeepsItsTimeUntilItDiffers(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for name, c := range map[string]struct {
		change  func(*neighbor.Written)
		differs bool
	}{
		"the same":                  {func(*neighbor.Written) {}, false},
		"in another order":          {func(w *neighbor.Written) { slices.Reverse(w.Neighbors) }, false},
		"the reason in other words": {func(w *neighbor.Written) { w.Skipped[0].Message = "because" }, false},
		"another address":           {func(w *neighbor.Written) { w.Neighbors[1].LLAddr = firstMAC }, true},
		"on another link":           {func(w *neighbor.Written) { w.Neighbors[1].Dev = "eth1" }, true},
		"from another source":       {func(w *neighbor.Written) { w.Neighbors[0].Source = neighbor.SourceHost }, true},
		"one more":                  {func(w *neighbor.Written) { w.Neighbors = append(w.Neighbors, pin("fd00::1", "eth0", firstMAC)) }, true},
		"one less":                  {func(w *neighbor.Written) { w.Neighbors = w.Neighbors[:1] }, true},
		"open for another reason":   {func(w *neighbor.Written) { w.Skipped[0].Reason = neighbor.ReasonLinkGone }, true},
		"open on another link":      {func(w *neighbor.Written) { w.Skipped[0].Dev = "eth1" }, true},
		"open for another gateway":  {func(w *neighbor.Written) { w.Skipped[0].Dst = netip.MustParseAddr("10.0.0.9") }, true},
		"none open":                 {func(w *neighbor.Written) { w.Skipped = nil }, true},
	} {
		before, written := captured(), captured()
		c.change(&written)
		rec := Record{Neighbors: before.Neighbors, Skipped: before.Skipped, CapturedAt: began, Error: "no luck"}
		rec.Capture(written)
		if rec.CapturedAt.Equal(began) == c.differs {
			t.Errorf("%s: captured at %s", name, rec.CapturedAt)
		}
		if !reflect.DeepEqual(rec.Neighbors, written.Neighbors) || !reflect.DeepEqual(rec.Skipped, written.Skipped) || rec.Error != "" {
			t.Errorf("%s: %+v, want %+v", name, rec, written)
		}
	}
	var nothing Record
	if nothing.Capture(neighbor.Written{}); nothing.CapturedAt.IsZero() || nothing.CapturedAt.Location() != time.UTC {
		t.Errorf("a sandbox with nothing to pin was captured at %s", nothing.CapturedAt)
	}
}

// A program takes a link into a namespace of its own: where its other end is stays known, and what was handed out before does not change.
func TestWhereALinkLeadsIsKnownWhenItIsAway(t *testing.T) {
	var rec Record
	rec.LeadTo(map[string]int{"eth0": 7})
	given := rec
	rec.LeadTo(map[string]int{"eth1": 9})
	if want := map[string]int{"eth0": 7, "eth1": 9}; !maps.Equal(rec.Ends, want) {
		t.Errorf("ends %v, want %v", rec.Ends, want)
	}
	if rec.LeadTo(nil); len(rec.Ends) != 2 {
		t.Errorf("ends %v, with no link in sight", rec.Ends)
	}
	if rec.LeadTo(map[string]int{"eth0": 8}); rec.Ends["eth0"] != 8 || !maps.Equal(given.Ends, map[string]int{"eth0": 7}) {
		t.Errorf("ends %v, and %v of the record that was handed out", rec.Ends, given.Ends)
	}
}

// What a record says of who the sandbox is, of its phase, of what is asked for and of its history is its own; all the rest is of the moment of the
// capture. Whoever adds a field decides.
func TestWhatARecordTakesFromAnotherOfItsSandbox(t *testing.T) {
	own := []string{
		"Version", "ID", "Name", "Namespace", "UID", "Handler", "Runtime", "NetNS", "Phase", "Repins", "Missed", "Annotated", "LiveFile", "Refused",
		"Observed", "Error", "History",
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	gateway := neighbor.Gateway{Dst: netip.MustParseAddr(first4), Dev: "eth0"}
	old := Record{
		Version: version, ID: "old", Name: "n", Namespace: "ns", UID: "u", Handler: "h", Runtime: "r", NetNS: NetNS{Path: "/p", Cookie: 1}, Phase: Started,
		Neighbors: captured().Neighbors, Skipped: captured().Skipped, Vacant: []neighbor.Gateway{gateway}, Stale: []Stale{{Dst: gateway.Dst}},
		Doubts: []Doubt{{Dst: gateway.Dst}}, Probes: []neighbor.Ask{{Dst: gateway.Dst}}, Ends: map[string]int{"eth0": 7},
		Addresses: []neighbor.Address{{Dev: "eth0"}}, HostState: &HostState{At: at}, ReturnPath: []hoststate.Entry{{Dev: "veth0"}},
		CapturedAt: at, Taken: true, Timing: Timing{Verdict: InTime, MarginMs: 60}, Repins: 1, Missed: 2, Annotated: true, LiveFile: true, Refused: "no",
		Observed: &Observed{Gateways: 1}, Error: "no luck", History: []Moment{{What: KindFound}},
	}
	taken := *New(Identity{ID: "new"})
	before := taken
	taken.TakeFrom(old)
	for i := range reflect.TypeFor[Record]().NumField() {
		name := reflect.TypeFor[Record]().Field(i).Name
		field := func(r Record) any { return reflect.ValueOf(r).Field(i).Interface() }
		if reflect.ValueOf(old).Field(i).IsZero() {
			t.Errorf("the other record has no %s", name)
		}
		want := old
		if slices.Contains(own, name) {
			want = before
		}
		if got := field(taken); !reflect.DeepEqual(got, field(want)) {
			t.Errorf("%s is %+v, want %+v", name, got, field(want))
		}
	}
	// What was found on the host goes with the addresses that it was looked for by, and taken is taken.
	old.Addresses, old.HostState, old.ReturnPath, old.Taken = nil, nil, nil, false
	if taken.TakeFrom(old); len(taken.Addresses) != 1 || taken.HostState == nil || len(taken.ReturnPath) != 1 || !taken.Taken {
		t.Errorf("from one without addresses: %+v", taken)
	}
}

// Of what happens in a sandbox most is nobody's business; what is packed judges as the record does.
func TestWhatHappensConcernsARecordWhenItMayBeDifferentThen(t *testing.T) {
	permanent, dynamic := []string{annotation.StatePermanent}, []string{"REACHABLE"}
	rec := restingRecord(t)
	rec.Neighbors, rec.Skipped = append(captured().Neighbors, pin(first4, "eth1", secondMAC)), captured().Skipped
	entry := func(kind neighbor.EventKind, dst string, lladdr neighbor.HardwareAddr, state []string) neighbor.Event {
		return neighbor.Event{Kind: kind, Dst: netip.MustParseAddr(dst), LLAddr: lladdr, State: state}
	}
	for name, c := range map[string]struct {
		event neighbor.Event
		want  bool
	}{
		"a pin is written":                    {entry(neighbor.NeighborChanged, first4, firstMAC, permanent), false},
		"one of the same address's two links": {entry(neighbor.NeighborChanged, first4, secondMAC, permanent), false},
		"a pin has another address":           {entry(neighbor.NeighborChanged, first4, "02:00:00:00:00:09", permanent), true},
		"a pin is none any more":              {entry(neighbor.NeighborChanged, second4, secondMAC, dynamic), true},
		"a pin is removed":                    {entry(neighbor.NeighborRemoved, first4, firstMAC, permanent), true},
		"the kernel finds some other station": {entry(neighbor.NeighborChanged, "10.0.0.9", firstMAC, dynamic), false},
		"somebody pins some other station":    {entry(neighbor.NeighborChanged, "10.0.0.9", firstMAC, permanent), false},
		"some other station is removed":       {entry(neighbor.NeighborRemoved, "10.0.0.9", firstMAC, permanent), false},
		"the kernel finds an open gateway":    {entry(neighbor.NeighborChanged, open4, firstMAC, dynamic), false},
		"somebody pins an open gateway":       {entry(neighbor.NeighborChanged, open4, firstMAC, permanent), true},
		"an open gateway's entry is removed":  {entry(neighbor.NeighborRemoved, open4, firstMAC, dynamic), true},
		"a link goes":                         {neighbor.Event{Kind: neighbor.LinkRemoved, Dev: "eth0"}, true},
	} {
		if got := rec.Concerns(c.event); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
		if packed := Pack(rec.Identity(), rec); packed == "" || packed.Concerns(c.event) != c.want {
			t.Errorf("%s, of the packed record: %t", name, packed.Concerns(c.event))
		}
	}
}
