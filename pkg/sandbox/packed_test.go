// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"net/netip"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// restingRecord is what most sandboxes of a node look like.
func restingRecord() Record {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	pin := func(gateway string) neighbor.Neighbor {
		dst := netip.MustParseAddr(gateway)
		return neighbor.Neighbor{Dst: dst, Dev: "eth0", LLAddr: otherMAC, Family: family(dst), State: []string{"PERMANENT"}, Source: neighbor.SourcePeer}
	}
	rec := Record{
		ID: "4f3a8c0f2f6d4a7e9b1c5d3e7f90a1b2c3d4e5f60718293a4b5c6d7e8f901234", Name: "web-7d4b9c6f5d-x2x7k", Namespace: "shop",
		UID: "0b7f2a52-6f0e-4a57-9d2f-3c8f6f1f7a11", Handler: "runsc", Runtime: typeGVisor,
		NetNS: NetNS{Path: "/var/run/netns/cni-6e0f2c7a-8b1d-4f2e-9c3a-5d7e9f1b3a5c", Cookie: 4711}, Phase: Started, Taken: true, Annotated: true,
		Neighbors: []neighbor.Neighbor{pin("169.254.1.1"), pin("fd00::1")}, Skipped: []neighbor.Skipped{},
		Ends:       map[string]int{"eth0": 4712},
		Addresses:  []neighbor.Address{{Addr: netip.MustParseAddr("10.88.0.2"), Dev: "eth0", LLAddr: foreignMAC, End: 4712}},
		HostState:  &HostState{Report: hoststate.Report{Finds: []hoststate.Find{}}, At: at},
		CapturedAt: at, Timing: Timing{Verdict: InTime, MarginMs: 31.25, PinnedAt: at, ResultToPinMs: 1.5},
	}
	for _, kind := range []Kind{KindFound, KindPinned, KindTiming, KindAdopted} {
		rec.History = append(rec.History, Moment{At: at, What: kind, Text: rec.Timing.text()})
	}
	return rec
}

func TestARecordIsTheSameWhenItHasBeenPacked(t *testing.T) {
	odd := restingRecord()
	odd.Neighbors[0].LLAddr, odd.Neighbors[1].Dev, odd.Skipped = "00:01", "odd", []neighbor.Skipped{{Reason: "Odd", Message: "why"}}
	for name, rec := range map[string]Record{"resting": restingRecord(), "odd": odd, "none": {}} {
		p := pack(rec.identity(), rec)
		if got := p.unpack(rec.identity()); p == "" || !reflect.DeepEqual(got, rec) {
			t.Errorf("%s: %d bytes, %+v, want %+v", name, len(p), got, rec)
		}
		if got := p.gateways(); !reflect.DeepEqual(got.Neighbors, rec.Neighbors) || !reflect.DeepEqual(got.Skipped, rec.Skipped) {
			t.Errorf("%s: gateways %+v", name, got)
		}
	}
}

// Whatever a record has, a sandbox at rest still has it: each field is given something.
func TestASandboxAtRestLosesNothingOfItsRecord(t *testing.T) {
	for i := range reflect.TypeFor[Record]().NumField() {
		rec := restingRecord()
		field := reflect.TypeFor[Record]().Field(i)
		fill(reflect.ValueOf(&rec).Elem().Field(i))
		s := newSandbox(rec.identity())
		s.update(func(r *Record) { *r = rec })
		s.finish()
		if got := s.record(); !reflect.DeepEqual(got, rec) {
			t.Errorf("%s: %+v, want %+v", field.Name, got, rec)
		}
		s.update(func(r *Record) { r.Repins++ })
		rec.Repins++
		if got := s.record(); !reflect.DeepEqual(got, rec) {
			t.Errorf("%s, after a change: %+v, want %+v", field.Name, got, rec)
		}
	}
}

// fill gives a value something that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("odd")
	case reflect.Int:
		v.SetInt(7)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	}
}

// A node has thousands of these in memory.
func TestASandboxAtRestTakesLessThanTwoKilobytes(t *testing.T) {
	const count = 2000
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	all := make([]*sandbox, count)
	before := heap()
	for i := range all {
		rec := restingRecord()
		all[i] = newSandbox(rec.identity())
		all[i].update(func(r *Record) { *r = rec })
		all[i].finish()
	}
	each := (heap() - before) / count
	t.Logf("%d bytes", each)
	if each > 1024 {
		t.Errorf("a sandbox takes %d bytes, without its id's and its path's", each)
	}
	runtime.KeepAlive(all)
}

func TestALatch(t *testing.T) {
	var l latch
	before := l.opened()
	if l.isOpen() {
		t.Error("it is open")
	}
	l.open()
	l.open()
	<-before
	<-l.opened()
	if !l.isOpen() {
		t.Error("it is shut")
	}
}
