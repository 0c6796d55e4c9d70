// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
)

// Two namespaces are pinned; one is gone and its name given to another by the time of the uninstallation.
func TestUnpinAllRemovesExactlyWhatTheRecordsKnow(t *testing.T) {
	ns, _ := newPod(t)
	gone, _ := newPod(t)
	state := t.TempDir()
	path, reused := ns.Mount(), gone.Mount()
	for _, p := range []string{path, reused} {
		if got := neighpin(nil, "pin", "--netns", p, "--state-dir", state); got.code != exitOK {
			t.Fatalf("pin: %+v", got)
		}
	}
	ns.IP("neigh add 10.88.0.77 dev eth0 lladdr 02:00:00:00:00:77 nud permanent")
	if err := nstest.Unmount(reused); err != nil {
		t.Fatal(err)
	}
	other, outside := newPod(t)
	other.MountAt(reused)
	other.IP("neigh add 10.88.0.1 dev eth0 lladdr " + outside.MAC("veth0") + " nud permanent")

	got := neighpin(nil, "unpin", "--all", "--state-dir", state, "-o", "json")
	var undone []Undone
	if err := json.Unmarshal([]byte(got.stdout), &undone); err != nil || got.code != exitOK || len(undone) != 2 {
		t.Fatalf("unpin --all: %+v, %v", got, err)
	}
	for _, u := range undone {
		if want := map[string]int{path: 2, reused: 0}[u.NetNS.Path]; len(u.Released) != want {
			t.Errorf("%s: %d pins removed, want %d", u.NetNS.Path, len(u.Released), want)
		}
	}
	if left := ns.Output("neigh", "show", "nud", "permanent"); strings.Count(left, "PERMANENT") != 1 || !strings.Contains(left, "10.88.0.77") {
		t.Errorf("left in the namespace: %q", left)
	}
	if left := other.Output("neigh", "show", "nud", "permanent"); strings.Count(left, "PERMANENT") != 1 {
		t.Errorf("the namespace that has the name now lost an entry: %q", left)
	}
	records, err := filepath.Glob(filepath.Join(state, "sandboxes", "*"))
	if err != nil || len(records) != 0 {
		t.Errorf("records left: %v %v", records, err)
	}
	if got := neighpin(nil, "unpin", "--all", "--state-dir", state); got.code != exitOK || !strings.Contains(got.stdout, "no records") {
		t.Errorf("unpin --all again: %+v", got)
	}
}

func TestUnpinAllRefusesWhileTheDaemonRuns(t *testing.T) {
	state := answering(t, nil)
	got := neighpin(nil, "unpin", "--all", "--state-dir", state)
	if got.code != exitError || got.stdout != "" || !strings.Contains(got.stderr, "stop it first") {
		t.Errorf("unpin --all: %+v", got)
	}
	if got := neighpin(nil, "unpin", "--all", "--netns", "/var/run/netns/x"); got.code != exitUsage {
		t.Errorf("unpin --all --netns: %+v", got)
	}
}

// Records name namespaces, folders and rules: who can write them would have root
// remove what they name.
func TestUnpinAllDoesNotActOnRecordsThatOthersCanWrite(t *testing.T) {
	ns, _ := newPod(t)
	state := t.TempDir()
	if got := neighpin(nil, "pin", "--netns", ns.Mount(), "--state-dir", state); got.code != exitOK {
		t.Fatalf("pin: %+v", got)
	}
	for _, dir := range []string{filepath.Join(state, "sandboxes"), state} {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		got := neighpin(nil, "unpin", "--all", "--state-dir", state)
		if got.code != exitError || !strings.Contains(got.stderr, "not safe") {
			t.Errorf("%s: %+v", dir, got)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if left := ns.Output("neigh", "show", "nud", "permanent"); strings.Count(left, "PERMANENT") != 2 {
		t.Errorf("left in the namespace: %q", left)
	}
	if got := neighpin(nil, "unpin", "--all", "--state-dir", state); got.code != exitOK {
		t.Errorf("unpin --all: %+v", got)
	}
}
