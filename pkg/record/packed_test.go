// SPDX-License-Identifier: Apache-2.0

package record

import (
	"reflect"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// restingRecord is what most sandboxes of a node look like; the engine's tests read it, too.
func restingRecord(t *testing.T) Record {
	t.Helper()
	rec, err := In("testdata").Load("4f3a8c0f2f6d4a7e9b1c5d3e7f90a1b2c3d4e5f60718293a4b5c6d7e8f901234")
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestARecordIsTheSameWhenItHasBeenPacked(t *testing.T) {
	odd := restingRecord(t)
	odd.Neighbors[0].LLAddr, odd.Neighbors[1].Dev, odd.Skipped = "00:01", "odd", []neighbor.Skipped{{Reason: "Odd", Message: "why"}}
	for name, rec := range map[string]Record{"resting": restingRecord(t), "odd": odd, "none": {}} {
		p := Pack(rec.Identity(), rec)
		if got := p.Unpack(rec.Identity()); p == "" || !reflect.DeepEqual(got, rec) {
			t.Errorf("%s: %d bytes, %+v, want %+v", name, len(p), got, rec)
		}
		if got := p.gateways(); !reflect.DeepEqual(got.Neighbors, rec.Neighbors) || !reflect.DeepEqual(got.Skipped, rec.Skipped) {
			t.Errorf("%s: gateways %+v", name, got)
		}
	}
}

// Of what packed has no form for there is none; and what only this process's clock knows is no difference.
func TestWhatCannotBePackedIsKept(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		change func(*Record)
		packs  bool
	}{
		"an address in capitals":    {func(r *Record) { r.Neighbors[0].LLAddr = "0A:00:00:00:00:01" }, true},
		"an address of eight bytes": {func(r *Record) { r.Neighbors[0].LLAddr = "0a:00:00:00:00:01:02:03" }, true},
		"no address":                {func(r *Record) { r.Neighbors[0].LLAddr = "" }, true},
		"empty lists":               {func(r *Record) { r.Neighbors, r.Skipped, r.History = []neighbor.Neighbor{}, nil, []Moment{} }, true},
		"counts":                    {func(r *Record) { r.Repins, r.Missed, r.NetNS.Cookie = 300, -1, 1<<63+5 }, true},
		"taken":                     {func(r *Record) { r.Taken, r.Annotated, r.LiveFile = true, false, false }, true},
		"not annotated, but a file": {func(r *Record) { r.Taken, r.Annotated, r.LiveFile = false, false, true }, true},
		"annotated":                 {func(r *Record) { r.Taken, r.Annotated, r.LiveFile = false, true, false }, true},
		"another state":             {func(r *Record) { r.Neighbors[0].State = []string{"REACHABLE"} }, false},
		"stale copies":              {func(r *Record) { r.Stale = []Stale{{Dev: "eth0"}} }, false},
		"no answer from the host":   {func(r *Record) { r.HostState = &HostState{At: now.UTC(), Error: "why"} }, false},
	} {
		rec := restingRecord(t)
		c.change(&rec)
		packed := Pack(rec.Identity(), rec)
		if (packed != "") != c.packs {
			t.Errorf("%s: packed in %d bytes", name, len(packed))
		}
		if packed != "" && !reflect.DeepEqual(packed.Unpack(rec.Identity()), rec) {
			t.Errorf("%s: %+v, want %+v", name, packed.Unpack(rec.Identity()), rec)
		}
	}
	rec := restingRecord(t)
	rec.CapturedAt, rec.Timing.PinnedAt = now.UTC(), now.UTC()
	rec.HostState = &HostState{Report: hoststate.Report{Finds: []hoststate.Find{}}, At: now.UTC()}
	got := Pack(rec.Identity(), rec).Unpack(rec.Identity())
	if !got.CapturedAt.Equal(now) || !got.Timing.PinnedAt.Equal(now) || got.HostState == nil || !got.HostState.At.Equal(now) {
		t.Errorf("with times by this clock: %+v, want %+v", got, rec)
	}
	if rec.HostState.At != now.UTC() {
		t.Error("the record itself was changed")
	}
}
