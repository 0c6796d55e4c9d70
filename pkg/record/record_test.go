// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

func sample(id string) Record {
	return Record{
		Version: version, ID: id, Name: "web", Namespace: "shop", UID: "u1", Handler: "runsc", Runtime: "io.containerd.runsc.v1",
		NetNS: NetNS{Path: "/var/run/netns/cni-1", Cookie: 4711}, Phase: Started,
		Neighbors: []neighbor.Neighbor{{
			Dst: netip.MustParseAddr("10.0.0.1"), Dev: "eth0", LLAddr: "02:00:00:00:00:01", Family: "inet",
			State: []string{"PERMANENT"}, Source: neighbor.SourcePeer,
		}},
		CapturedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		Timing:     Timing{Verdict: InTime, MarginMs: 61.5, PinnedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), ResultToPinMs: 1.5},
		Annotated:  true,
	}
}

func TestRecordsSurvive(t *testing.T) {
	records, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	want := sample("a1")
	if err := records.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := records.Load("a1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("record (-saved +loaded):\n%s", diff)
	}
	if err := records.Delete("a1"); err != nil {
		t.Fatal(err)
	}
	if err := records.Delete("a1"); err != nil {
		t.Errorf("deleting again: %v", err)
	}
}

func TestBrokenRecordIsSetAsideAndCostsNoOther(t *testing.T) {
	dir := t.TempDir()
	records, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"good", "half"} {
		if err := records.Save(sample(id)); err != nil {
			t.Fatal(err)
		}
	}
	half := filepath.Join(dir, "sandboxes", "half.json")
	data, err := os.ReadFile(half)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(half, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := records.ByCookie(4711); err == nil {
		t.Error("a look without changing hides the broken record")
	}
	if _, err := os.Stat(half); err != nil {
		t.Errorf("a look changed something: %v", err)
	}
	var got []Record
	take := func(rec Record) { got = append(got, rec) }
	err = records.LoadEach(1, take)
	if err == nil || !strings.Contains(err.Error(), "half.json.broken") {
		t.Errorf("error %v does not name where the broken record is", err)
	}
	if len(got) != 1 || got[0].ID != "good" {
		t.Errorf("records %+v", got)
	}
	if _, err := os.Stat(half + ".broken"); err != nil {
		t.Error(err)
	}
	got = nil
	if err := records.LoadEach(1, take); err != nil || len(got) != 1 {
		t.Errorf("the next start: %d records, %v", len(got), err)
	}
}

func TestRecordsRefuseIDsThatAreNoFileNames(t *testing.T) {
	records, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", "..", "../x", "a/b", ".hidden", strings.Repeat("a", 129), "a\nb"} {
		if err := records.Save(sample(id)); err == nil {
			t.Errorf("id %q accepted", id)
		}
		if _, err := records.Load(id); err == nil {
			t.Errorf("id %q loaded", id)
		}
	}
}

// FuzzDecodeRecord: whatever stands in a state file ends in an error or in a
// record that names a sandbox and a namespace, and that is the same when it is
// written and read again.
func FuzzDecodeRecord(f *testing.F) {
	whole := sample("a1")
	whole.Skipped = []neighbor.Skipped{{Dst: netip.MustParseAddr("fd00::1"), Dev: "eth0", Reason: ReasonInsists, Message: "m"}}
	whole.Stale = []Stale{{Dst: netip.MustParseAddr("10.0.0.1"), Dev: "eth0"}}
	whole.Probes, whole.Ends = []neighbor.Ask{{Dst: netip.MustParseAddr("10.0.0.1"), Dev: "eth0"}}, map[string]int{"eth0": 7}
	whole.Vacant = []neighbor.Gateway{{Dst: netip.MustParseAddr("fd00::1"), Dev: "eth0"}}
	whole.Note(KindPinned, "%s", "10.0.0.1 on eth0")
	data, err := json.Marshal(whole)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"id":"a","netns":{"path":"/p","cookie":1}}`))
	f.Add([]byte(`{"version":1,"id":"../a","netns":{"path":"/p","cookie":1},"neighbors":[{"dst":"10.0.0.1","lladdr":"02:00:00:00:00:01"}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := decode(data)
		if err == nil && (!ValidID(rec.ID) || rec.NetNS.Cookie == 0 || !filepath.IsAbs(rec.NetNS.Path)) {
			t.Errorf("accepted %+v", rec)
		}
		if err != nil {
			return
		}
		_, _ = rec.Annotation()
		again, err := json.Marshal(rec)
		if err != nil {
			t.Fatalf("%q was read and cannot be written: %v", data, err)
		}
		if second, err := decode(again); err != nil || second.ID != rec.ID || second.NetNS != rec.NetNS || len(second.Owned()) != len(rec.Owned()) {
			t.Fatalf("%q was written as %q, and that is %+v, %v", data, again, second, err)
		}
	})
}
