// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/record"
)

// newPod makes a namespace as ptp would; its other end is in a second one.
func newPod(t *testing.T) (ns, outside *nstest.NS) {
	t.Helper()
	ns, outside = nstest.New(t), nstest.New(t)
	ns.Veth("eth0", outside, "veth0")
	ns.IP("address add 10.88.0.2/24 dev eth0", "route add default via 10.88.0.1",
		"address add fd00:88::2/64 dev eth0 nodad", "route add default via fd00:88::1")
	return ns, outside
}

func report(t *testing.T, got outcome) Report {
	t.Helper()
	var r Report
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		t.Fatalf("no JSON: %v in %+v", err, got)
	}
	return r
}

func TestInspectPinVerifyUnpin(t *testing.T) {
	ns, outside := newPod(t)
	path, state := ns.Mount(), t.TempDir()
	run := func(name string) outcome {
		return neighpin(nil, name, "--netns", path, "--state-dir", state, "-o", "json")
	}
	permanent := func() int { return strings.Count(ns.Output("neigh", "show"), "PERMANENT") }

	got := run("inspect")
	r := report(t, got)
	if got.code != exitOK || len(r.Neighbors) != 2 || r.NetNS.Cookie != ns.Cookie() || r.NetNS.Path != path || r.NetNS.Host {
		t.Fatalf("inspect: %+v", got)
	}
	for _, n := range r.Neighbors {
		if n.LLAddr.String() != outside.MAC("veth0") || n.Dev != "eth0" || n.Source != "peer" || n.State[0] == "PERMANENT" {
			t.Errorf("inspect: %+v", n)
		}
	}
	if entries, err := os.ReadDir(state); permanent() != 0 || err != nil || len(entries) != 0 {
		t.Fatalf("inspect changed something: %d entries, state %v", permanent(), entries)
	}
	if got := run("verify"); got.code != exitNotPinned || report(t, got).Result != resultDifferent || len(report(t, got).Differences) != 2 {
		t.Errorf("verify before pin: %+v", got)
	}
	if got := run("pin"); got.code != exitOK || permanent() != 2 || report(t, got).Neighbors[0].State[0] != "PERMANENT" {
		t.Errorf("pin: %+v, %d entries", got, permanent())
	}
	if got := run("pin"); got.code != exitOK || permanent() != 2 {
		t.Errorf("pin again: %+v", got)
	}
	if got := run("verify"); got.code != exitOK || report(t, got).Result != resultOK {
		t.Errorf("verify: %+v", got)
	}
	outside.IP("link set veth0 address 02:00:00:00:12:34")
	if got := run("verify"); got.code != exitNotPinned {
		t.Errorf("verify after the other end changed: %+v", got)
	}
	if got := run("pin"); got.code != exitOK || !strings.Contains(got.stdout, "02:00:00:00:12:34") {
		t.Errorf("pin after the other end changed: %+v", got)
	}
	ns.IP("neigh add 10.88.0.77 dev eth0 lladdr 02:00:00:00:00:77 nud permanent")
	if got := run("unpin"); got.code != exitOK || permanent() != 1 || len(report(t, got).Neighbors) != 2 {
		t.Errorf("unpin: %+v, %d entries", got, permanent())
	}
	if got := run("unpin"); got.code != exitOK || len(report(t, got).Neighbors) != 0 {
		t.Errorf("unpin again: %+v", got)
	}
}

func TestVerifyOfANamespaceThatARuntimeHasTaken(t *testing.T) {
	ns, _ := newPod(t)
	path, state := ns.Mount(), t.TempDir()
	ns.IP("address del 10.88.0.2/24 dev eth0", "address del fd00:88::2/64 dev eth0")
	args := []string{"verify", "--netns", path, "--state-dir", state, "-o", "json"}
	if got := neighpin(nil, args...); got.code != exitNotPinned || report(t, got).Result != resultHandedOver {
		t.Errorf("without a record: %+v", got)
	}
	rec := record.Record{ID: "abc", NetNS: record.NetNS{Path: path, Cookie: ns.Cookie()}, Timing: record.Timing{Verdict: record.InTime}}
	if err := record.In(state).Save(rec); err != nil {
		t.Fatal(err)
	}
	if got := neighpin(nil, args...); got.code != exitOK || report(t, got).Result != resultHandedOver {
		t.Errorf("with a record that proves it: %+v", got)
	}
	if got := neighpin(nil, "pin", "--netns", path, "--state-dir", state); got.code != exitError {
		t.Errorf("pin: %+v", got)
	}
}

// A link without ARP has nothing that could be wrong.
func TestVerifyWithNothingToPin(t *testing.T) {
	ns, _ := newPod(t)
	ns.IP("link set eth0 arp off")
	got := neighpin(nil, "verify", "--netns", ns.Mount(), "--state-dir", t.TempDir(), "-o", "json")
	if r := report(t, got); got.code != exitOK || r.Result != resultOK || len(r.Skipped) != 2 {
		t.Errorf("verify: %+v", got)
	}
}

func TestHostsNamespaceIsRefused(t *testing.T) {
	link := filepath.Join(t.TempDir(), "pod")
	if err := os.Symlink("/proc/self/ns/net", link); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"inspect", "pin", "unpin", "verify"} {
		for _, path := range []string{"/proc/self/ns/net", "/proc/thread-self/ns/net", link} {
			got := neighpin(nil, command, "--netns", path, "--state-dir", t.TempDir())
			if got.code != exitError || !strings.Contains(got.stderr, "host") || got.stdout != "" {
				t.Errorf("%s %s: %+v", command, path, got)
			}
		}
	}
}

func TestPathsThatAreNoNamespace(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{empty, t.TempDir(), "/proc/self/ns/mnt", "/no/such/file", "/dev/null", "odd\nname"} {
		got := neighpin(nil, "inspect", "--netns", path)
		if got.code != exitError || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("%q: %+v", path, got)
		}
	}
}

func TestTables(t *testing.T) {
	ns, _ := newPod(t)
	got := neighpin(nil, "inspect", "--netns", ns.Mount(), "--state-dir", t.TempDir())
	for _, want := range []string{"GATEWAY", "10.88.0.1", "fd00:88::1", "peer"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("table lacks %q:\n%s", want, got.stdout)
		}
	}
	if got := neighpin(nil, "version"); got.code != exitOK || !strings.HasPrefix(got.stdout, "neighpin ") {
		t.Errorf("version: %+v", got)
	}
	if got := neighpin(nil, "completion", "bash"); got.code != exitOK || !strings.Contains(got.stdout, "neighpin") {
		t.Errorf("completion: exit %d", got.code)
	}
}
