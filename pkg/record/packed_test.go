// SPDX-License-Identifier: Apache-2.0

package record

import (
	"reflect"
	"testing"

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
