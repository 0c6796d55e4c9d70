// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// hostile is a name that clears a screen, sets a title, breaks a table and turns the
// direction of writing.
const hostile = "a\x1b[2J\x1b]0;owned\a\tb\n\u009b31m\u202e"

// saved writes records as a daemon would have, of sandboxes that are gone.
func saved(t *testing.T, records ...record.Record) (stateDir string) {
	t.Helper()
	stateDir = t.TempDir()
	for _, rec := range records {
		if err := record.In(stateDir).Save(rec); err != nil {
			t.Fatal(err)
		}
	}
	return stateDir
}

func recorded(id, namespace, name string) record.Record {
	at := time.Now().Add(-3 * time.Hour).UTC()
	return record.Record{
		ID: id, Namespace: namespace, Name: name, Handler: "runsc", Runtime: "io.containerd.runsc.v1", Phase: record.Started, Taken: true,
		NetNS: record.NetNS{Path: "/var/run/netns/gone-" + id, Cookie: 4711},
		Neighbors: []neighbor.Neighbor{{Dst: netip.MustParseAddr("10.0.0.1"), Dev: "eth0", LLAddr: "02:00:00:00:00:01", Family: "inet",
			State: []string{"PERMANENT"}, Source: neighbor.SourcePeer}},
		CapturedAt: at, Timing: record.Timing{Verdict: record.InTime, MarginMs: 61.5, PinnedAt: at},
		History: []record.Moment{{At: at, What: record.KindFound, Text: "new"}},
	}
}

func troubled(id, namespace, name string) record.Record {
	rec := recorded(id, namespace, name)
	rec.Skipped = []neighbor.Skipped{{Dst: netip.MustParseAddr("10.0.0.2"), Dev: hostile, Reason: neighbor.ReasonPeerGone, Message: hostile}}
	rec.Stale = []record.Stale{{Dst: netip.MustParseAddr("10.0.0.1"), Dev: "eth0", Copied: "02:00:00:00:00:01", LLAddr: "02:00:00:00:00:02"}}
	rec.Doubts = []record.Doubt{{Dst: netip.MustParseAddr("10.0.0.3"), Dev: "eth0", Reason: record.ReasonConflict, Claims: []neighbor.HardwareAddr{"02:00:00:00:00:03"}}}
	rec.Timing.Verdict, rec.Error = record.Late, hostile
	rec.History = append(rec.History, record.Moment{At: rec.CapturedAt.Add(time.Second), What: record.KindFailed, Text: hostile, Times: 4})
	return rec
}

// isCalm fails the test where a terminal would be told something.
func isCalm(t *testing.T, what string, got outcome) {
	t.Helper()
	for _, text := range []string{got.stdout, got.stderr} {
		if strings.ContainsAny(text, "\x1b\a\u009b\u202e\t\r") {
			t.Errorf("%s: a terminal would obey %q", what, text)
		}
	}
}

func TestListShowsALineForEachSandbox(t *testing.T) {
	state := saved(t, recorded("a1", "shop", "web"), troubled("a2", "shop", hostile), recorded("a3", "other", "web"))
	got := neighpin(nil, "list", "--state-dir", state)
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	if got.code != exitOK || len(lines) != 4 || !strings.Contains(got.stderr, "from its records") {
		t.Fatalf("list: %+v", got)
	}
	if want := "shop web runsc 1/1 inTime 61.5 ms 0 OK 3h"; strings.Join(strings.Fields(lines[1]), " ") != want {
		t.Errorf("line %q, want %q", lines[1], want)
	}
	if !strings.Contains(lines[2], "Error,Late,Stale,PeerGone,Conflict") {
		t.Errorf("line %q", lines[2])
	}
	isCalm(t, "list", got)
	for args, want := range map[string]int{"-n other": 2, "-n nowhere": 1, "-o wide": 5, "-n shop -o wide": 4} {
		got := neighpin(nil, append([]string{"ls", "--state-dir", state}, strings.Fields(args)...)...)
		isCalm(t, args, got)
		if lines := strings.Count(got.stdout, "\n"); got.code != exitOK || lines != want {
			t.Errorf("ls %s: %d lines, want %d: %+v", args, lines, want, got)
		}
	}
	if got := neighpin(nil, "list", "--problems", "--state-dir", state); got.code != exitNotPinned || strings.Count(got.stdout, "\n") != 2 {
		t.Errorf("list --problems: %+v", got)
	}
	if got := neighpin(nil, "list", "--problems", "-n", "other", "--state-dir", state); got.code != exitOK {
		t.Errorf("list --problems where there are none: %+v", got)
	}
	if got := neighpin(nil, "list", "-o", "xml"); got.code != exitUsage {
		t.Errorf("list -o xml: %+v", got)
	}
}

func TestListForPrograms(t *testing.T) {
	state := saved(t, recorded("a1", "shop", "web"), troubled("a2", "shop", hostile))
	for form, decode := range map[string]func([]byte, any) error{
		"json": json.Unmarshal, "yaml": func(data []byte, v any) error { return yaml.Unmarshal(data, v) },
	} {
		got := neighpin(nil, "list", "-o", form, "--state-dir", state)
		var records []record.Record
		if err := decode([]byte(got.stdout), &records); err != nil || len(records) != 2 || !strings.HasPrefix(records[1].Name, "a\x1b[2J") || form == "json" && records[1].Name != hostile || records[0].History[0].Text != "new" {
			t.Errorf("%s: %v, %+v", form, err, records)
		}
		isCalm(t, form, got)
	}
	if got := neighpin(nil, "list", "-o", "json", "--state-dir", t.TempDir()); strings.TrimSpace(got.stdout) != "[]" {
		t.Errorf("no sandboxes: %+v", got)
	}
}

func TestAgesAreAsKubectlHasThem(t *testing.T) {
	now := time.Now()
	for ago, want := range map[time.Duration]string{
		5 * time.Second: "5s", 119 * time.Second: "119s", 5 * time.Minute: "5m", 47 * time.Hour: "47h", 50 * time.Hour: "2d", -time.Hour: "0s",
	} {
		if got := age(now.Add(-ago), now); got != want {
			t.Errorf("%s ago: %q, want %q", ago, got, want)
		}
	}
	if got := age(time.Time{}, now); got != "-" {
		t.Errorf("never: %q", got)
	}
}
