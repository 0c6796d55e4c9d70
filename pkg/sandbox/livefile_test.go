// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// runcPod is a started pod that asked to be pinned and for the live file.
func (n *node) runcPod() *pod {
	n.t.Helper()
	p := n.newPod("runc", typeRunc)
	p.rec.Annotations = map[string]string{selection.PinAnnotation: "true", selection.FileAnnotation: "true"}
	p.listed().cni().ready()
	n.awaitPinned()
	return p
}

// liveFile is the file's path; containers would see it through a mount of the
// folder.
func (n *node) liveFile(id string) string {
	return filepath.Join(n.engine.LiveFile(id), record.LiveFileName)
}

func readLive(t *testing.T, path string) *annotation.Annotation {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a, err := annotation.Parse(string(data))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLiveFileSaysWhatIsPinnedToEverybodyInThePod(t *testing.T) {
	// A daemon's umask is not the pod's business.
	defer unix.Umask(unix.Umask(0o077))
	n := newNode(t)
	p := n.runcPod()
	path := n.liveFile(podID)
	if want := filepath.Join(n.stateDir, "files", podID, record.LiveFileName); path != want {
		t.Fatalf("live file %q, want %q", path, want)
	}
	a := readLive(t, path)
	if a.Cookie != p.Cookie() || len(a.Neighbors) != 2 {
		t.Errorf("the file says %+v", a)
	}
	for path, want := range map[string]fs.FileMode{path: 0o644, filepath.Dir(path): 0o755 | fs.ModeDir, filepath.Dir(filepath.Dir(path)): 0o755 | fs.ModeDir} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	// What a container is shown is the folder; nothing but the file may appear there.
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestLiveFileIsReplacedAsAWholeWhenTheRecordChanges(t *testing.T) {
	n := newNode(t)
	n.runcPod()
	path := n.liveFile(podID)
	before, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	s, _ := n.engine.find(podID)
	s.wait(t.Context())
	unchanged, err := before.Stat()
	if err != nil {
		t.Fatal(err)
	}
	n.engine.save(s)
	if now, err := os.Stat(path); err != nil || !os.SameFile(now, unchanged) {
		t.Errorf("a record that says the same made a new file (%v)", err)
	}

	const moved = "0a:00:00:00:00:09"
	s.update(func(r *record.Record) {
		r.Neighbors = append(r.Neighbors[:0:0], r.Neighbors...)
		r.Neighbors[0].LLAddr = moved
		r.CapturedAt = time.Now().UTC()
	})
	n.engine.save(s)
	if now, err := os.Stat(path); err != nil || os.SameFile(now, unchanged) {
		t.Errorf("a changed record did not replace the file (%v)", err)
	}
	found := false
	for _, e := range readLive(t, path).Neighbors {
		found = found || e.LLAddr == moved
	}
	if !found {
		t.Errorf("the file does not follow the record")
	}
}

// A program of the pod takes the link into a namespace of its own: the file is for
// such programs, and goes on following the other end.
func TestLiveFileFollowsTheTruthOfALinkThatWasMovedAway(t *testing.T) {
	n := newNode(t)
	p := n.runcPod()
	path := n.liveFile(podID)
	n.engine.ContainerCreating(t.Context(), podID)
	n.awaitVerdict(record.InTime)
	says := func(mac string) {
		t.Helper()
		n.eventually("the file to say "+mac, func() bool {
			a := readLive(t, path)
			return len(a.Neighbors) == 2 && string(a.Neighbors[0].LLAddr) == mac && string(a.Neighbors[1].LLAddr) == mac
		})
	}
	own := nstest.New(t)
	p.IP("link set eth0 netns " + own.Ref())
	own.IP("link set eth0 up")
	says(n.outside.MAC("veth0"))
	n.outside.IP("link set veth0 address " + otherMAC)
	says(otherMAC)

	n.engine.Close()
	n.outside.IP("link set veth0 address " + foreignMAC)
	n.start()
	says(foreignMAC)
	if got := own.Output("neigh", "show", "nud", "permanent"); got != "" {
		t.Errorf("entries in a namespace that is none of ours: %q", got)
	}
	if rec := n.record(); rec.Error != "" || len(rec.Skipped) != 0 {
		t.Errorf("record %+v", rec)
	}
}

func TestLiveFileFollowsTheSandboxesLife(t *testing.T) {
	n := newNode(t)
	n.runcPod()
	path := n.liveFile(podID)
	n.engine.ContainerCreating(t.Context(), podID)
	n.awaitVerdict(record.InTime)

	// The next process goes on with it, also where it was lost or is wrong.
	n.engine.Close()
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	if a := readLive(t, path); len(a.Neighbors) != 2 {
		t.Errorf("after a restart the file says %+v", a)
	}
	if n.liveFile(podID) != path {
		t.Error("after a restart new containers do not get the file")
	}

	n.store.fail(errDown) // which would list it again
	n.engine.SandboxRemoved(podID)
	nstest.Eventually(t, "the file's folder to be removed", func() bool {
		_, err := os.Lstat(filepath.Dir(path))
		return errors.Is(err, fs.ErrNotExist)
	})
	if got := n.engine.LiveFile(podID); got != "" {
		t.Errorf("containers of a sandbox that is gone get %q", got)
	}
}

func TestLeftLiveFilesAreSweptWhereNoRecordKnowsThem(t *testing.T) {
	n := newNode(t)
	n.runcPod()
	n.engine.Close()
	files := filepath.Join(n.stateDir, "files")
	old := time.Now().Add(-time.Hour)
	paths := map[string]bool{ // to what is to stay
		podID: true, "gone": false, "young": true, "broken": true, ".neighbors.json123": false,
	}
	for name := range paths {
		if name == podID {
			continue
		}
		if err := os.MkdirAll(filepath.Join(files, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if name == "young" {
			continue
		}
		if err := os.Chtimes(filepath.Join(files, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	// Its sandbox may live: containers hold the folder.
	if err := os.WriteFile(filepath.Join(n.stateDir, "sandboxes", "broken.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	for name, stays := range paths {
		if _, err := os.Lstat(filepath.Join(files, name)); (err == nil) != stays {
			t.Errorf("%s: %v, want it to stay: %v", name, err, stays)
		}
	}
}

func TestLiveFileThatCannotBeWrittenCostsNoContainer(t *testing.T) {
	n := newNode(t)
	// A file where the folder should be, since root may write everywhere.
	if err := os.WriteFile(filepath.Join(n.stateDir, "files"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := n.runcPod()
	if value := n.engine.ContainerCreating(t.Context(), podID); value == "" {
		t.Error("no annotation")
	}
	if got := n.engine.LiveFile(podID); got != "" {
		t.Errorf("a folder that is not there: %q", got)
	}
	if n.log.count(record.KindRecord) == 0 {
		t.Error("nobody was told")
	}
	if p.permanent() == "" {
		t.Error("nothing is pinned")
	}
}

func TestOtherPodsGetNoLiveFile(t *testing.T) {
	n := newNode(t)
	p := n.newPod("runsc", typeGVisor)
	p.rec.Annotations = map[string]string{selection.FileAnnotation: "true"}
	p.listed().cni().ready()
	n.awaitPinned()
	if got := n.engine.LiveFile(podID); got != "" {
		t.Errorf("a gVisor pod gets %q", got)
	}
	for _, id := range []string{"unknown", "../sandboxes", ""} {
		if got := n.engine.LiveFile(id); got != "" {
			t.Errorf("sandbox %q gets %q", id, got)
		}
	}
	if _, err := os.Lstat(filepath.Join(n.stateDir, "files")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder for nobody's files: %v", err)
	}
}

// During a rolling update a container can meet a daemon that has not seen its
// sandbox yet; the record is the other one's.
func TestLiveFileOfAnotherProcessIsUsed(t *testing.T) {
	n := newNode(t)
	n.runcPod()
	path := n.liveFile(podID)
	options := n.options()
	options.Store = nil
	other, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if got := filepath.Join(other.LiveFile(podID), record.LiveFileName); got != path {
		t.Errorf("live file %q, want %q", got, path)
	}
	if rec, err := n.engine.records.Load(podID); err != nil || !netns.Exists(rec.NetNS.Path, rec.NetNS.Cookie) || !rec.LiveFile {
		t.Errorf("record %+v, %v", rec, err)
	}
}

// A container that has CAP_SYS_ADMIN can make its mount writable. What it puts in the
// file's place is replaced, and neither followed nor waited for.
func TestLiveFileIsNotReadThroughWhatAContainerPutsThere(t *testing.T) {
	n := newNode(t)
	p := n.runcPod()
	path := n.liveFile(podID)
	value := readLive(t, path)
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(elsewhere, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for kind, put := range map[string]func() error{
		"a link":           func() error { return os.Symlink(elsewhere, path) },
		"a link to itself": func() error { return os.Symlink(record.LiveFileName, path) },
		"a pipe":           func() error { return unix.Mkfifo(path, 0o644) },
		"an endless file":  func() error { return errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, 1<<40)) },
	} {
		if err := errors.Join(os.Remove(path), put()); err != nil {
			t.Fatal(err)
		}
		answered := make(chan string, 1)
		go func() { answered <- n.engine.LiveFile(podID) }()
		select {
		case folder := <-answered:
			if folder != filepath.Dir(path) {
				t.Errorf("%s: folder %q", kind, folder)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: who asks for the folder waits for ever", kind)
		}
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: the file is %v, %v", kind, info, err)
			continue
		}
		if a := readLive(t, path); a.Cookie != p.Cookie() || !a.SameNeighbors(value) {
			t.Errorf("%s: the file says %+v", kind, a)
		}
	}
	if after, err := os.ReadFile(elsewhere); err != nil || string(after) != string(text) {
		t.Errorf("the link's target was written: %v", err)
	}
}
