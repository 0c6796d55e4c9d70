// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/record"
)

func TestAContainerThatJoinsIsAnnotatedAndNotPinnedAgain(t *testing.T) {
	for engine, tc := range map[string]struct {
		kind, id, value string
		pinsUnknown     bool
	}{
		"containerd": {containerdType, containerdSandbox, "abc", false},
		"CRI-O":      {crioType, crioSandbox, "abc", true},
		"podman":     {crioType, crioSandbox, "id-of-the-pod", true},
	} {
		t.Run(engine, func(t *testing.T) {
			ns, _ := newPod(t)
			b := newBed(t)
			path := ns.Mount()
			b.begin(cmdCreate, newBundle(t, path, map[string]string{tc.kind: "sandbox"}), "abc")
			// What the sandbox's own programs do is theirs.
			ns.IP("neigh flush all nud permanent")
			joining := newBundle(t, path, map[string]string{tc.kind: typeContainer, tc.id: tc.value})
			if got := b.begin(cmdCreate, joining, "def"); !ran(got) || permanent(ns) != 0 || len(b.messages()) != 0 {
				t.Errorf("%+v, %d entries, said %v", got, permanent(ns), b.messages())
			}
			_, annotations := readConfig(t, joining)
			if a, err := annotation.Parse(annotations[annotation.Key]); err != nil || len(a.Neighbors) != 2 {
				t.Errorf("annotation %+v, %v", a, err)
			}
			if _, err := b.record("def"); err == nil {
				t.Error("a record of a container that joins")
			}
			// Without the sandbox's record it depends on whether the engine is sure
			// to have created one.
			b.wrap("delete", "abc")
			later := newBundle(t, path, map[string]string{tc.kind: typeContainer, tc.id: tc.value})
			if b.begin(cmdCreate, later, "ghi"); (permanent(ns) == 2) != tc.pinsUnknown {
				t.Errorf("%d entries, want them: %t", permanent(ns), tc.pinsUnknown)
			}
		})
	}
}

// A pod can write the key of an engine that is not there; it must not get around
// its pins by it, nor into another's record.
func TestAPodThatSaysItJoins(t *testing.T) {
	for own, foreign := range map[string]string{containerdType: crioType, crioType: containerdType} {
		ns := newSegment(t)
		b := newBed(t)
		b.options.Enforce = true
		bundle := newBundle(t, ns.Mount(), map[string]string{
			own: "sandbox", foreign: typeContainer, crioSandbox: "victim", containerdSandbox: "victim", podName: "a\nb", podNamespace: "shop",
		})
		if got := b.begin(cmdCreate, bundle, "abc"); ran(got) || !strings.Contains(b.messages()[levelError], `container "abc" refused`) {
			t.Errorf("%+v, said %v", got, b.messages())
		}
		if _, err := b.record("victim"); err == nil {
			t.Error("the record of another sandbox was written")
		}
	}
}

// CRI-O runs no container for a sandbox: the first of its containers is pinned for,
// and what is recorded is the sandbox's and outlives that one.
func TestASandboxWithoutAContainerOfItsOwn(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	path := filepath.Join(t.TempDir(), "cni-1")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ns.MountAt(path)
	join := func(path, pod string) string {
		return newBundle(t, path, map[string]string{crioType: typeContainer, crioSandbox: pod})
	}
	b.begin(cmdCreate, join(path, "pod"), "init")
	b.wrap("delete", "init")
	if rec, err := b.record("pod"); err != nil || len(rec.Owned()) != 2 {
		t.Errorf("record %+v, %v", rec, err)
	}
	// Nobody deletes a sandbox by way of the runtime; the next one's start does.
	if err := nstest.Unmount(path); err != nil {
		t.Fatal(err)
	}
	other, _ := newPod(t)
	b.begin(cmdCreate, join(other.Mount(), "other"), "main")
	if _, err := b.record("pod"); err == nil {
		t.Error("the record of a sandbox that is gone stays")
	}
	if _, err := b.record("other"); err != nil {
		t.Error(err)
	}
}

// containerd's containers join the host's network by the path of their sandbox's
// process.
func TestAContainerOfASandboxOnTheHostsNetwork(t *testing.T) {
	for _, kind := range []string{containerdType, crioType} {
		b := newBed(t)
		b.options.Enforce = true
		bundle := newBundle(t, "/proc/self/ns/net", map[string]string{kind: typeContainer, containerdSandbox: "abc"})
		before, _ := readConfig(t, bundle)
		if got := b.begin(cmdCreate, bundle, "def"); !ran(got) || len(b.messages()) != 0 {
			t.Errorf("%s: %+v, said %v", kind, got, b.messages())
		}
		if now, _ := readConfig(t, bundle); now != before {
			t.Errorf("%s: the bundle was edited", kind)
		}
	}
}

// The daemon's record of the same sandbox stays the daemon's.
func TestTheDaemonsRecordIsShared(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	bundle := newBundle(t, ns.Mount(), nil)
	daemons := record.Record{
		ID: "abc", Name: "web", Namespace: "shop", UID: "u", Handler: "runsc", Runtime: "io.containerd.runsc.v1",
		NetNS: record.NetNS{Path: "/var/run/netns/x", Cookie: ns.Cookie()}, Phase: record.Starting, Repins: 3,
		Timing: record.Timing{Verdict: record.Pending},
	}
	records, err := record.Open(b.options.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := records.Save(daemons); err != nil {
		t.Fatal(err)
	}
	b.begin(cmdCreate, bundle, "abc")
	rec, err := b.record("abc")
	if err != nil || len(rec.Owned()) != 2 || !rec.Annotated || rec.CapturedAt.IsZero() {
		t.Errorf("record %+v, %v", rec, err)
	}
	if rec.Runtime != daemons.Runtime || rec.Phase != record.Starting || rec.Timing != daemons.Timing || rec.NetNS != daemons.NetNS || rec.Repins != 3 {
		t.Errorf("the daemon's part of the record became %+v", rec)
	}
	// Nothing new: nothing is written.
	before, err := os.ReadFile(filepath.Join(b.options.StateDir, "sandboxes", "abc.json"))
	if err != nil {
		t.Fatal(err)
	}
	b.begin(cmdCreate, bundle, "abc")
	after, err := os.ReadFile(filepath.Join(b.options.StateDir, "sandboxes", "abc.json"))
	if err != nil || string(before) != string(after) {
		t.Errorf("the record was written for nothing: %v", err)
	}
	// Another namespace under the same id is another sandbox.
	other, _ := newPod(t)
	b.begin(cmdCreate, newBundle(t, other.Mount(), nil), "abc")
	if rec, err := b.record("abc"); err != nil || rec.NetNS.Cookie != other.Cookie() || rec.Runtime != "" {
		t.Errorf("record %+v, %v", rec, err)
	}
}

func TestAnIdThatIsNoFileNameIsRecordedByHand(t *testing.T) {
	for _, id := range []string{"../../x", strings.Repeat("a", 129)} {
		ns, _ := newPod(t)
		b := newBed(t)
		if got := b.begin(cmdCreate, newBundle(t, ns.Mount(), nil), id); !ran(got) || permanent(ns) != 2 {
			t.Errorf("%+v", got)
		}
		if rec, err := b.record(record.ByHandID(ns.Cookie())); err != nil || len(rec.Owned()) != 2 {
			t.Errorf("record %+v, %v", rec, err)
		}
	}
}

func TestAStateDirectoryThatCannotBeUsedCostsNoPins(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	b.options.StateDir = filepath.Join(b.log, "state") // below a file, later
	if err := os.WriteFile(b.log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.options.Enforce = true
	if got := b.begin(cmdCreate, newBundle(t, ns.Mount(), nil), "abc"); !ran(got) || permanent(ns) != 2 || b.messages()[levelWarning] == "" {
		t.Errorf("%+v, %d entries, said %v", got, permanent(ns), b.messages())
	}
}

// gVisor's shim restores without a bundle: what was created before stands in
// runsc's state.
func TestRestoreFindsTheNamespaceAndEditsNothing(t *testing.T) {
	runscState := func(t *testing.T, root, name, config string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), []byte(`{"id":"abc","spec":`+config+`,"status":"created"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("in runsc's state", func(t *testing.T) {
		ns, _ := newPod(t)
		b := newBed(t)
		config, _ := readConfig(t, newBundle(t, ns.Mount(), nil))
		root := t.TempDir()
		if err := os.WriteFile(filepath.Join(root, "abc_sandbox:abc.lock"), nil, 0o600); err != nil { // as runsc does
			t.Fatal(err)
		}
		runscState(t, root, "abc_sandbox:abc.state", config)
		runscState(t, root, "abc2_sandbox:abc2.state", "{}")
		if got := b.wrap("--root="+root, "--log="+b.log, "--log-format=json", "restore", "--image-path=/i", "--detach", "abc"); !ran(got) || permanent(ns) != 2 {
			t.Errorf("%+v, %d entries, said %v", got, permanent(ns), b.messages())
		}
		if rec, err := b.record("abc"); err != nil || rec.NetNS.Cookie != ns.Cookie() {
			t.Errorf("record %+v, %v", rec, err)
		}
	})
	t.Run("in a state that is broken", func(t *testing.T) {
		b := newBed(t)
		b.options.Enforce = true
		root := t.TempDir()
		for _, text := range []string{"null", "[", "7"} {
			runscState(t, root, "abc_sandbox:abc.state", text)
			if got := b.wrap("--root", root, "restore", "abc"); ran(got) || got.stderr == "" {
				t.Errorf("%s: %+v", text, got)
			}
		}
	})
	t.Run("in a state that cannot be read", func(t *testing.T) {
		ns, _ := newPod(t)
		t.Chdir(newBundle(t, ns.Mount(), nil)) // which does not stand in for it
		folder := t.TempDir()
		if err := os.Mkdir(filepath.Join(folder, "abc_sandbox:abc.state"), 0o700); err != nil {
			t.Fatal(err)
		}
		b := newBed(t)
		b.options.Enforce = true
		for _, root := range []string{folder, filepath.Join(writeBundle(t, nil), "config.json")} {
			if got := b.wrap("--root", root, "restore", "abc"); ran(got) || !strings.Contains(got.stderr, "runsc's state") || permanent(ns) != 0 {
				t.Errorf("%+v, %d entries", got, permanent(ns))
			}
		}
	})
	t.Run("in the bundle", func(t *testing.T) {
		ns, _ := newPod(t)
		b := newBed(t)
		bundle := newBundle(t, ns.Mount(), nil)
		before, _ := readConfig(t, bundle)
		root := t.TempDir()
		runscState(t, root, "abc_sandbox:abc.state", "{}") // goes behind what the command line names
		if got := b.wrap("--root", root, "--log", b.log, "--log-format", "json", cmdRestore, "--bundle", bundle, "abc"); !ran(got) || permanent(ns) != 2 {
			t.Errorf("%+v, %d entries, said %v", got, permanent(ns), b.messages())
		}
		if now, _ := readConfig(t, bundle); now != before {
			t.Error("the bundle was edited")
		}
	})
	for name, root := range map[string]string{"nothing there": t.TempDir(), "not even a folder": filepath.Join(t.TempDir(), "none")} {
		t.Run("in the working directory, "+name, func(t *testing.T) {
			ns, _ := newPod(t)
			b := newBed(t)
			t.Chdir(newBundle(t, ns.Mount(), nil))
			if got := b.wrap("--root", root, "restore", "abc"); !ran(got) || permanent(ns) != 2 {
				t.Errorf("%+v, %d entries", got, permanent(ns))
			}
		})
	}
}
