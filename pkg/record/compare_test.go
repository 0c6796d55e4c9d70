// SPDX-License-Identifier: Apache-2.0

package record

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// What is told, and written to disk, is what differs; that it was found at another time is no difference.
func TestWhatIsADifferenceBetweenTwoRecords(t *testing.T) {
	gateway, other := netip.MustParseAddr(first4), netip.MustParseAddr(second4)
	record := func() Record {
		return Record{
			Neighbors: captured().Neighbors, Skipped: captured().Skipped,
			Stale: []Stale{
				{Dst: gateway, Dev: "eth0", Copied: firstMAC, LLAddr: secondMAC}, {Dst: other, Dev: "eth0", Copied: secondMAC, Reason: neighbor.ReasonPeerGone},
			},
			Doubts: []Doubt{{Dst: gateway, Dev: "eth0", Reason: ReasonConflict}, {Dst: other, Dev: "eth0", Reason: ReasonConflict}},
			Probes: []neighbor.Ask{{Dst: gateway, Dev: "eth0"}},
		}
	}
	for name, c := range map[string]struct {
		change        func(*Record)
		drifted, asks bool // and another question
	}{
		"nothing":                         {func(*Record) {}, false, false},
		"found at another time":           {func(r *Record) { r.Stale[0].Since, r.Doubts[0].Since = time.Now(), time.Now() }, false, false},
		"in another order":                {func(r *Record) { slices.Reverse(r.Neighbors); slices.Reverse(r.Stale); slices.Reverse(r.Doubts) }, false, false},
		"a pin's address":                 {func(r *Record) { r.Neighbors[0].LLAddr = secondMAC }, true, false},
		"a pin's source":                  {func(r *Record) { r.Neighbors[0].Source = neighbor.SourceLearned }, true, false},
		"a pin less":                      {func(r *Record) { r.Neighbors = r.Neighbors[:1] }, true, false},
		"a reason":                        {func(r *Record) { r.Skipped[0].Reason = ReasonInsists }, true, false},
		"a gateway less that is open":     {func(r *Record) { r.Skipped = nil }, true, false},
		"a copy that is true again":       {func(r *Record) { r.Stale = r.Stale[:1] }, true, false},
		"what is true of a copy":          {func(r *Record) { r.Stale[0].LLAddr = "02:00:00:00:00:09" }, true, false},
		"why nothing is true of a copy":   {func(r *Record) { r.Stale[1].Reason = neighbor.ReasonLinkGone }, true, false},
		"what was copied":                 {func(r *Record) { r.Stale[0].Copied = "02:00:00:00:00:09" }, true, false},
		"the link of a copy":              {func(r *Record) { r.Stale[0].Dev = "eth1" }, true, false},
		"the gateway of a copy":           {func(r *Record) { r.Stale[0].Dst = netip.MustParseAddr("10.0.0.9") }, true, false},
		"a doubt less":                    {func(r *Record) { r.Doubts = r.Doubts[:1] }, false, true},
		"why there is a doubt":            {func(r *Record) { r.Doubts[0].Reason = ReasonNoAnswer }, false, true},
		"the link of a doubt":             {func(r *Record) { r.Doubts[0].Dev = "eth1" }, false, true},
		"a question less":                 {func(r *Record) { r.Probes = nil }, false, true},
		"the address a question is from":  {func(r *Record) { r.Probes[0].Src = other }, false, true},
		"a count":                         {func(r *Record) { r.Repins++ }, false, false},
		"how far it has come":             {func(r *Record) { r.Phase = Started }, false, false},
		"an address of the sandbox's own": {func(r *Record) { r.Addresses = []neighbor.Address{{Dev: "eth0"}} }, false, false},
	} {
		before, now := record(), record()
		c.change(&now)
		if got := now.DriftedFrom(before); got != c.drifted {
			t.Errorf("%s: drifted %t", name, got)
		}
		if got := before.DriftedFrom(now); got != c.drifted {
			t.Errorf("%s, the other way around: drifted %t", name, got)
		}
		if got := !now.AsksAs(before); got != c.asks {
			t.Errorf("%s: asks for something else %t", name, got)
		}
	}
}

// A runtime that copied the pins has them as they were; of a copy that was corrected in the namespace since, the record has what it was.
func TestWhatARuntimeHasCopied(t *testing.T) {
	was := neighbor.HardwareAddr("02:00:00:00:00:09")
	rec := Record{Neighbors: append(captured().Neighbors, pin(second4, "eth1", firstMAC))}
	if got := rec.Copied(); !reflect.DeepEqual(got, rec.Neighbors) {
		t.Errorf("nothing was corrected: %+v", got)
	}
	rec.Stale = []Stale{
		{Dst: netip.MustParseAddr(second4), Dev: "eth0", Copied: was, Source: neighbor.SourceHost, LLAddr: secondMAC},
		{Dst: netip.MustParseAddr("fd00::1"), Dev: "eth0", Copied: firstMAC, Source: neighbor.SourcePeer, Reason: neighbor.ReasonPeerGone},
	}
	want := []neighbor.Neighbor{
		pin(first4, "eth0", firstMAC), pin(second4, "eth1", firstMAC), pin(second4, "eth0", was), pin("fd00::1", "eth0", firstMAC),
	}
	want[2].Source = neighbor.SourceHost
	if got := rec.Copied(); !reflect.DeepEqual(got, want) {
		t.Errorf("copied %+v, want %+v", got, want)
	}
}

// Only what neighpin wrote is taken back, and only what others wrote is left to them.
func TestWhoseTheEntriesOfARecordAre(t *testing.T) {
	rec := Record{Neighbors: captured().Neighbors}
	rec.Neighbors[1].Source = neighbor.SourceExisting
	if own := rec.Owned(); len(own) != 1 || own[0].Dst.String() != first4 {
		t.Errorf("own %+v", own)
	}
	if foreign := rec.Foreign(); len(foreign) != 1 || foreign[0].Dst.String() != second4 {
		t.Errorf("others' %+v", foreign)
	}
	for id, want := range map[string]bool{ByHandID(4711): true, "pod-netns-4711": false, "": false} {
		if got := (Record{ID: id}).ByHand(); got != want {
			t.Errorf("%q by hand: %t", id, got)
		}
	}
}

func TestTheAnnotationSaysWhatTheRecordSays(t *testing.T) {
	rec := sample("a1")
	rec.Neighbors[0].Source = neighbor.SourceHost
	text, err := rec.Annotation()
	if err != nil {
		t.Fatal(err)
	}
	a, err := annotation.Parse(text)
	if err != nil || a.Cookie != rec.NetNS.Cookie || !a.CapturedAt.Equal(rec.CapturedAt) || len(a.Neighbors) != 1 {
		t.Fatalf("%+v, %v", a, err)
	}
	want := annotation.Entry{Dst: rec.Neighbors[0].Dst, Dev: "eth0", LLAddr: firstMAC, Source: annotation.SourceHost}
	if a.Neighbors[0] != want {
		t.Errorf("%+v, want %+v", a.Neighbors[0], want)
	}
	rec.Neighbors = nil
	if text, err := rec.Annotation(); err != nil || text == "" {
		t.Errorf("nothing to pin is not said: %q, %v", text, err)
	}
	for name, change := range map[string]func(*Record){
		"is not asked for":      func(r *Record) { r.Annotated = false },
		"was not looked at yet": func(r *Record) { r.CapturedAt = time.Time{} },
	} {
		silent := rec
		change(&silent)
		if text, err := silent.Annotation(); err != nil || text != "" {
			t.Errorf("of one that %s: %q, %v", name, text, err)
		}
	}
}

func TestAVerdictIsStrongerThanThoseBeforeIt(t *testing.T) {
	order := []Verdict{Pending, Nothing, Unproven, Late, InTime}
	for i, a := range order {
		for j, b := range order {
			if got := a.StrongerThan(b); got != (i > j) {
				t.Errorf("%s stronger than %s: %t", a, b, got)
			}
		}
	}
	if got := (Timing{Verdict: InTime, MarginMs: 61.54}).String(); got != "inTime, margin 61.5 ms" {
		t.Errorf("%q", got)
	}
	if got := (Timing{Verdict: Unproven}).String(); got != "unproven" {
		t.Errorf("%q", got)
	}
}

// The runtime's type decides. Where it is not known, which is so when only NRI told of the sandbox, a name may only make neighpin more careful.
func TestWhoseStackAPodHas(t *testing.T) {
	for _, c := range []struct {
		handler, runtime, name string
		want                   Stack
	}{
		{"runsc", "io.containerd.runsc.v1", "runsc", StackTaken},
		{"", "io.containerd.runsc.v1", "runsc", StackTaken},
		{"kata", "io.containerd.runc.v2", "kata", StackKernel},
		{"", "io.containerd.runc.v2", "runc", StackKernel},
		{"safe", "io.containerd.kata.v2", "safe", StackGuest},
		{"safe", "io.containerd.kata-qemu.v2", "safe", StackGuest},
		{"kata-qemu", "", "kata-qemu", StackGuest},
		{"runsc", "", "runsc", StackUnknown},
		{"runc", "", "runc", StackUnknown},
		{"", "", "", StackUnknown},
		{"wasm", "io.containerd.runwasi.v1", "wasm", StackUnknown},
		{"", "io.containerd.runcvm.v1", "runcvm", StackUnknown},
		{"", "/opt/bin/shim", "/opt/bin/shim", StackUnknown},
	} {
		id := Identity{ID: "a", Name: "web", Namespace: "shop", UID: "u", Handler: c.handler, Runtime: c.runtime, NetNSPath: "/p"}
		if got := id.Stack(); got != c.want {
			t.Errorf("handler %q, runtime %q: stack %d, want %d", c.handler, c.runtime, got, c.want)
		}
		rec := New(id)
		if got := rec.HandlerName(); got != c.name {
			t.Errorf("handler %q, runtime %q: name %q, want %q", c.handler, c.runtime, got, c.name)
		}
		rec.NetNS.Path = "/p"
		if got := rec.Identity(); !reflect.DeepEqual(got, id) {
			t.Errorf("identity %+v, want %+v", got, id)
		}
		if rec.Phase != Starting || rec.Timing.Verdict != Pending {
			t.Errorf("begins as %s, %s", rec.Phase, rec.Timing)
		}
	}
}
