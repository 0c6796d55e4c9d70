// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

func TestAHistoryStaysShortAndKeepsItsBeginning(t *testing.T) {
	var rec Record
	given := rec // what was handed out before does not change
	for i := range 100 {
		rec.Note(KindRepinned, "turn %d", i)
		if i == 0 {
			given = rec
		}
		if len(rec.History) > maxHistory {
			t.Fatalf("%d moments after %d turns", len(rec.History), i+1)
		}
	}
	if len(rec.History) != maxHistory || len(given.History) != 1 || given.History[0].Text != "turn 0" {
		t.Fatalf("%d moments, %+v handed out", len(rec.History), given.History)
	}
	if first, kept, last := rec.History[0].Text, rec.History[keptHistory-1].Text, rec.History[maxHistory-1].Text; first != "turn 0" || kept != "turn 5" || last != "turn 99" {
		t.Errorf("first %q, last that is kept %q, last %q", first, kept, last)
	}
	rec.Note(KindRepinned, "turn 99")
	rec.Note(KindRepinned, "turn 99")
	if last := rec.History[len(rec.History)-1]; len(rec.History) != maxHistory || last.Times != 3 {
		t.Errorf("the same three times: %d moments, last %+v", len(rec.History), last)
	}
	rec.Note(KindFailed, "%s", strings.Repeat("\xff\xe2", 200)+strings.Repeat("é", 200))
	if last := rec.History[len(rec.History)-1].Text; len(last) > maxMoment || !utf8.ValidString(last) || !strings.HasSuffix(last, "...") {
		t.Errorf("%d bytes of text, valid %t: %q", len(last), utf8.ValidString(last), last)
	}
	rec.Note(KindFailed, "%s", strings.Repeat("é", 200)) // of which half a character would be left
	if last := rec.History[len(rec.History)-1].Text; !utf8.ValidString(last) {
		t.Errorf("half a character: %q", last)
	}
	rec.Note(KindFailed, "%s", "a\xffb")
	if last := rec.History[len(rec.History)-1].Text; last != "a?b" {
		t.Errorf("as JSON will not have it: %q", last)
	}
	rec.Note(KindFailed, "%s", strings.Repeat("x", maxMoment))
	if last := rec.History[len(rec.History)-1].Text; len(last) != maxMoment || strings.HasSuffix(last, ".") {
		t.Errorf("a text that just fits: %q", last)
	}
}

// A node has ten thousand of these in memory, and on disk.
func TestAFullHistoryTakesLessThanAPage(t *testing.T) {
	var rec Record
	for i := range 100 {
		rec.Note(KindHostState, "%d %s", i, strings.Repeat("x", 1000))
	}
	if data, err := json.Marshal(rec.History); err != nil || len(data) > 4096 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

// Copies of a record are handed out: what is noted later is not in them.
func TestWhatIsNotedIsNotInWhatWasHandedOutBefore(t *testing.T) {
	var rec Record
	rec.Note(KindFound, "new")
	rec.History = slices.Grow(rec.History, 10) // so that adding to it needs no other room
	given := [3]Record{rec}
	rec.Note(KindRepinned, "once")
	given[1] = rec
	rec.Note(KindRepinned, "once")
	given[2] = rec
	if rec.Note(KindFailed, "once"); len(rec.History) != 3 {
		t.Errorf("of another kind: %+v", rec.History)
	}
	other := given[0]
	other.Note(KindFailed, "something else")
	if given[1].History[1].Times != 0 || given[1].History[1].What != KindRepinned || given[2].History[1].Times != 2 {
		t.Errorf("%+v, %+v", given[1].History, given[2].History)
	}
	joined := Record{History: []Moment{{At: time.Now().Add(-time.Hour), What: KindAdopted}}}
	given[0].History = slices.Grow(given[0].History, 10)
	if joined.TakeHistory(given[0]); given[0].History[0].What != KindFound || joined.History[0].What != KindAdopted {
		t.Errorf("%+v joined to %+v", given[0].History, joined.History)
	}
}

// Two processes tell of one sandbox, and may tell the same.
func TestTwoHistoriesAreOneInTheOrderOfTime(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	moment := func(after time.Duration, what Kind, text string) Moment {
		return Moment{At: at.Add(after), What: what, Text: text}
	}
	var old, rec Record
	old.History = []Moment{moment(0, KindFound, "new"), moment(2, KindRepinned, "once"), moment(4, KindRepinned, "once")}
	rec.History = []Moment{
		moment(1, KindPinned, "once"), moment(2, KindFailed, "once"), moment(2, KindRepinned, "twice"), moment(3, KindRepinned, "once"), moment(4, KindRepinned, "once"),
	}
	rec.History[4].At = rec.History[4].At.In(time.FixedZone("there", 3600)) // the same moment, as another clock has it
	rec.TakeHistory(old)
	var got []string
	for _, m := range rec.History {
		got = append(got, fmt.Sprintf("%d %s %s", m.At.Sub(at), m.What, m.Text))
	}
	want := []string{"0 found new", "1 pinned once", "2 repinned once", "2 failed once", "2 repinned twice", "3 repinned once", "4 repinned once"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for i := range 2 * maxHistory {
		old.History = append(old.History, moment(time.Duration(10+i), KindFailed, "again"))
	}
	if rec.TakeHistory(old); len(rec.History) != maxHistory {
		t.Errorf("%d moments", len(rec.History))
	}
}

// Where the history tells nothing, the proof does.
func TestWhenASandboxBegan(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rec := Record{Timing: Timing{PinnedAt: at}}
	if !rec.Began().Equal(at) {
		t.Errorf("without a history: %s", rec.Began())
	}
	rec.History = []Moment{{At: at.Add(-time.Second)}, {At: at}}
	if !rec.Began().Equal(at.Add(-time.Second)) {
		t.Errorf("with one: %s", rec.Began())
	}
	rec.Note(KindFound, "new")
	if m := rec.History[2]; m.At.Location() != time.UTC || m.At.Nanosecond()%1e6 != 0 {
		t.Errorf("noted at %s", m.At)
	}
}

func TestTheHistorySaysWhatChanged(t *testing.T) {
	gateway := netip.MustParseAddr("10.0.0.1")
	rec := sample("a1")
	rec.NoteEvent(Event{Kind: KindRepinned})
	rec.NoteEvent(Event{Kind: KindStale, Changes: []Change{{Dst: gateway, Dev: "eth0", Was: "02:00:00:00:00:01", Reason: neighbor.ReasonPeerGone}}})
	rec.NoteEvent(Event{Kind: KindFailed, Err: errors.New("no luck")})
	rec.NoteEvent(Event{Kind: KindConflict, Changes: []Change{{Dst: gateway, Dev: "eth0", Claims: []neighbor.HardwareAddr{"02:00:00:00:00:02"}}}})
	rec.NoteEvent(Event{Kind: KindWithdrawn, Changes: []Change{{Dst: gateway, Dev: "eth0", Now: "02:00:00:00:00:02"}, {Dst: gateway, Dev: "eth1"}}})
	rec.Skipped = []neighbor.Skipped{{Dst: gateway, Dev: "eth1", Reason: neighbor.ReasonNoARP}}
	rec.NoteEvent(Event{Kind: KindPinned})
	rec.Neighbors = nil
	for i := range 2 {
		if i > 0 {
			rec.Skipped = slices.Repeat(rec.Skipped, 4)
		}
		rec.NoteEvent(Event{Kind: KindPinned})
	}
	rec.Skipped = nil
	rec.NoteEvent(Event{Kind: KindPinned})
	for i, want := range []string{
		"10.0.0.1 eth0 02:00:00:00:00:01 (peer)",
		"10.0.0.1 eth0 02:00:00:00:00:01 -> none PeerGone",
		"no luck",
		"10.0.0.1 eth0 [02:00:00:00:00:02]",
		"10.0.0.1 eth0 none -> 02:00:00:00:00:02, 10.0.0.1 eth1",
		"10.0.0.1 eth0 02:00:00:00:00:01 (peer); not: 10.0.0.1 eth1 NoARP",
		"not: 10.0.0.1 eth1 NoARP",
		"not: 10.0.0.1 eth1 NoARP, 10.0.0.1 eth1 NoARP, 10.0.0.1 eth1 NoARP, 1 more",
		"nothing to pin",
	} {
		if got := rec.History[i].Text; got != want {
			t.Errorf("moment %d is %q, want %q", i, got, want)
		}
	}
}

// A record is read by whoever takes over, and one of a release without histories too.
func TestAHistorySurvivesInTheRecord(t *testing.T) {
	records, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	rec := sample("a1")
	rec.Note(KindFound, "new")
	rec.Note(KindPinned, "%s", rec.pinned())
	if err := records.Save(rec); err != nil {
		t.Fatal(err)
	}
	again, err := records.Load("a1")
	if err != nil || len(again.History) != 2 || again.History[1] != rec.History[1] {
		t.Fatalf("%+v, %v; want %+v", again.History, err, rec.History)
	}
	later := Record{History: []Moment{again.History[1], {At: time.Now().UTC(), What: KindAdopted}}}
	later.TakeHistory(again)
	if len(later.History) != 3 || later.History[0].What != KindFound || later.History[2].What != KindAdopted {
		t.Errorf("joined: %+v", later.History)
	}
	old := sample("a2")
	if err := records.Save(old); err != nil {
		t.Fatal(err)
	}
	if again, err := records.Load("a2"); err != nil || again.History != nil {
		t.Errorf("a record without history: %+v, %v", again.History, err)
	}
	data, err := json.Marshal(Record{Version: version, ID: "a3", NetNS: NetNS{Path: "/p", Cookie: 1}, History: make([]Moment, 1000)})
	if err != nil {
		t.Fatal(err)
	}
	if huge, err := decode(data); err != nil || len(huge.History) != maxHistory {
		t.Errorf("a thousand moments: %d, %v", len(huge.History), err)
	}
}
