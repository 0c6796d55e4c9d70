// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The operator may have asked to refuse; what runs already has to be stopped all the same.
func TestNothingBeginsWhileTheOperatorsWishesAreUnknown(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	b.options.Fault = errors.New("parse runtime.toml: line 3")
	bundle := newBundle(t, ns.Mount(), nil)
	for _, command := range []string{cmdCreate, cmdRun, cmdRestore} {
		if got := b.begin(command, bundle, "abc"); ran(got) || got.code != exitError || !strings.Contains(got.stderr, "runtime.toml: line 3") || permanent(ns) != 0 {
			t.Errorf("%s: %+v, %d entries", command, got, permanent(ns))
		}
	}
	for _, command := range []string{"state", "kill", "delete"} {
		if got := b.wrap(command, "abc"); !ran(got) || got.said != "" {
			t.Errorf("%s: %+v", command, got)
		}
	}
}

func TestWithoutARealRuntimeNothingIsDone(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	b.options.Name = "neighpin-none"
	if got := b.begin(cmdCreate, newBundle(t, ns.Mount(), nil), "abc"); ran(got) || got.code != exitError || !strings.Contains(got.stderr, `"none"`) || permanent(ns) != 0 {
		t.Errorf("%+v, %d entries", got, permanent(ns))
	}
}

func TestARuntimeThatCannotBeExecutedIsTold(t *testing.T) {
	got := newBed(t).wrap("state", "abc")
	if got.code != exitError || !strings.Contains(got.stderr, got.path) || !strings.Contains(got.stderr, "this is a test") {
		t.Errorf("%+v", got)
	}
}

func TestMoreGatewaysThanTheLimit(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	b.options.MaxNeighbors, b.options.Enforce = 1, true
	got := b.begin(cmdCreate, newBundle(t, ns.Mount(), nil), "abc")
	if ran(got) || !strings.Contains(got.stderr, "(enforce): LimitReached: there are more gateways than the limit of 1") || permanent(ns) != 1 {
		t.Errorf("%+v, %d entries", got, permanent(ns))
	}
}

func TestAWarningThatTheLogCannotTakeGoesToStandardError(t *testing.T) {
	for _, log := range []string{"/dev/full", filepath.Join(t.TempDir(), "none", "log")} {
		var out bytes.Buffer
		teller{log: log, stderr: &out}.warn("no %s", "room")
		if out.String() != "neighpin: no room\n" {
			t.Errorf("%s: %q", log, out.String())
		}
	}
}

// Something else has the name of the record.
func TestARecordThatCannotBeWrittenOrRemovedIsTold(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	if err := os.MkdirAll(filepath.Join(b.options.StateDir, "sandboxes", "abc.json", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.options.Enforce = true
	bundle := newBundle(t, ns.Mount(), nil)
	if got := b.begin(cmdCreate, bundle, "abc"); !ran(got) || permanent(ns) != 2 || !strings.Contains(b.messages()[levelWarning], "write record of sandbox abc") {
		t.Errorf("create: %+v, %d entries, said %v", got, permanent(ns), b.messages())
	}
	if got := b.wrap("delete", "abc"); !ran(got) || !strings.Contains(got.said, "remove record of sandbox abc") {
		t.Errorf("delete: %+v", got)
	}
	if code, said := b.hook(strings.Replace(creating(bundle, 0), "creating", statusStopped, 1)); code != exitOK || !strings.Contains(said, "remove record of sandbox abc") {
		t.Errorf("poststop: exit %d, %q", code, said)
	}
}

// The pins stand, and most runtimes read no annotation; half a bundle would stop any.
func TestABundleWithoutRoomForTheAnnotationStaysWhole(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	b.options.Enforce = true
	config, _ := readConfig(t, newBundle(t, ns.Mount(), map[string]string{"x": strings.Repeat("x", 9<<10)}))
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := b.begin(cmdCreate, dir, "abc"); !ran(got) || permanent(ns) != 2 || !strings.Contains(b.messages()[levelWarning], "annotate "+dir) {
		t.Errorf("%+v, %d entries, said %v", got, permanent(ns), b.messages())
	}
	if now, _ := readConfig(t, dir); now != config {
		t.Errorf("the bundle has %d bytes, want %d", len(now), len(config))
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
