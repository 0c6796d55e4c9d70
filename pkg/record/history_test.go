// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/json"
	"errors"
	"net/netip"
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
	if last := rec.History[len(rec.History)-1].Text; len(last) > maxMoment || !utf8.ValidString(last) {
		t.Errorf("%d bytes of text, valid %t", len(last), utf8.ValidString(last))
	}
}

func TestTheHistorySaysWhatChanged(t *testing.T) {
	gateway := netip.MustParseAddr("10.0.0.1")
	rec := sample("a1")
	rec.NoteEvent(Event{Kind: KindRepinned})
	rec.NoteEvent(Event{Kind: KindStale, Changes: []Change{{Dst: gateway, Dev: "eth0", Was: "02:00:00:00:00:01", Reason: neighbor.ReasonPeerGone}}})
	rec.NoteEvent(Event{Kind: KindFailed, Err: errors.New("no luck")})
	rec.NoteEvent(Event{Kind: KindConflict, Changes: []Change{{Dst: gateway, Dev: "eth0", Claims: []neighbor.HardwareAddr{"02:00:00:00:00:02"}}}})
	for i, want := range []string{
		"10.0.0.1 eth0 02:00:00:00:00:01 (peer)",
		"10.0.0.1 eth0 02:00:00:00:00:01 -> none PeerGone",
		"no luck",
		"10.0.0.1 eth0 [02:00:00:00:00:02]",
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
