// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/netns"
)

func TestWatcherListsThenFollows(t *testing.T) {
	dir := t.TempDir()
	touch(t, dir, "before")
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	w := watch(t, dir)
	expect(t, w, "added "+dir+"/before")
	touch(t, dir, "cni-1")
	expect(t, w, "added "+dir+"/cni-1")
	if err := os.Rename(dir+"/cni-1", dir+"/cni-2"); err != nil {
		t.Fatal(err)
	}
	expect(t, w, "removed "+dir+"/cni-1", "added "+dir+"/cni-2")
	remove(t, dir+"/cni-2")
	remove(t, dir+"/before")
	expect(t, w, "removed "+dir+"/cni-2", "removed "+dir+"/before")
}

func TestWatcherTellsWhatWasMadeWhileItWatched(t *testing.T) {
	dir := t.TempDir()
	touch(t, dir, "before")
	w := watch(t, dir)
	if ev := next(t, w); ev.New {
		t.Errorf("%+v, and it was there", ev)
	}
	touch(t, dir, "after")
	if ev := next(t, w); !ev.New || ev.Op != netns.Added {
		t.Errorf("%+v, and it was made now", ev)
	}
	remove(t, dir+"/before")
	if ev := next(t, w); ev.New {
		t.Errorf("%+v", ev)
	}
}

func TestWatcherWaitsForItsDirectory(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "a", "b", "netns")
	w := watch(t, dir)
	mkdir(t, dir)
	touch(t, dir, "first")
	expect(t, w, "added "+dir+"/first")

	// Gone with everything above it, and made anew.
	if err := os.RemoveAll(filepath.Join(root, "a")); err != nil {
		t.Fatal(err)
	}
	expect(t, w, "removed "+dir+"/first")
	mkdir(t, dir)
	touch(t, dir, "second")
	expect(t, w, "added "+dir+"/second")
}

func TestWatcherFollowsADirectoryThatIsReplaced(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "netns")
	mkdir(t, dir)
	touch(t, dir, "old")
	w := watch(t, dir)
	expect(t, w, "added "+dir+"/old")

	next := filepath.Join(root, "next")
	mkdir(t, next)
	touch(t, next, "new")
	if err := unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE); err != nil {
		t.Fatal(err)
	}
	expect(t, w, "removed "+dir+"/old", "added "+dir+"/new")
	touch(t, dir, "newer")
	expect(t, w, "added "+dir+"/newer")
}

// inotify's queue holds 16384 events unless set otherwise
// (fs.inotify.max_queued_events); what comes while it is full is lost.
func TestWatcherSurvivesAnOverflow(t *testing.T) {
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(string(limit[:len(limit)-1]))
	if err != nil {
		t.Fatal(err)
	}
	n += n / 2
	dir := t.TempDir()
	touch(t, dir, "before")
	w := watch(t, dir)
	expect(t, w, "added "+dir+"/before")
	// Nobody receives meanwhile. One event is on its way, some 4096 in a buffer.
	for i := range n {
		touch(t, dir, strconv.Itoa(i))
	}
	remove(t, dir+"/before") // surely lost
	seen := make(map[string]int)
	for len(seen) < n+1 {
		ev := next(t, w)
		seen[ev.Path]++
		if ev.Path == dir+"/before" != (ev.Op == netns.Removed) {
			t.Fatalf("%v %s", ev.Op, ev.Path)
		}
	}
	for path, times := range seen {
		if times != 1 {
			t.Fatalf("%s reported %d times", path, times)
		}
	}
	touch(t, dir, "after")
	expect(t, w, "added "+dir+"/after")
}

func TestWatcherEnds(t *testing.T) {
	t.Run("by Close without Start", func(t *testing.T) {
		w := newWatcher(t, t.TempDir())
		w.Close()
		w.Close()
		if _, open := <-w.Events(); open {
			t.Error("an event")
		}
		if err := w.Start(t.Context()); err == nil {
			t.Error("started after Close")
		}
	})
	t.Run("by Close while nobody receives", func(t *testing.T) {
		dir := t.TempDir()
		touch(t, dir, "a")
		w := watch(t, dir)
		w.Close()
		w.Close()
	})
	t.Run("with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := newWatcher(t, t.TempDir())
		defer w.Close()
		if err := w.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := w.Start(ctx); err == nil {
			t.Error("started twice")
		}
		cancel()
		if _, open := <-w.Events(); open {
			t.Error("an event")
		}
	})
}

func TestWatcherRefusesWhatIsNoDirectory(t *testing.T) {
	dir := t.TempDir()
	touch(t, dir, "file")
	for _, path := range []string{dir + "/file", dir + "/file/netns"} {
		w := newWatcher(t, path)
		if err := w.Start(t.Context()); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s: %v", path, err)
		}
		w.Close()
	}
	if _, err := netns.NewWatcher(nil); err == nil {
		t.Error("no directory at all is accepted")
	}
}

func newWatcher(t *testing.T, dirs ...string) *netns.Watcher {
	t.Helper()
	w, err := netns.NewWatcher(dirs)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func watch(t *testing.T, dirs ...string) *netns.Watcher {
	t.Helper()
	w := newWatcher(t, dirs...)
	t.Cleanup(w.Close)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

func next(t *testing.T, w *netns.Watcher) netns.Event {
	t.Helper()
	select {
	case ev, open := <-w.Events():
		if !open {
			t.Fatal("the watching has ended")
		}
		return ev
	case <-time.After(time.Minute):
		t.Fatal("no event")
	}
	panic("not reached")
}

// expect receives as many events as are named, in any order.
func expect(t *testing.T, w *netns.Watcher, want ...string) {
	t.Helper()
	var got []string
	for range want {
		ev := next(t, w)
		got = append(got, ev.Op.String()+" "+ev.Path)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("events %q, want %q", got, want)
	}
}

func touch(t *testing.T, dir, name string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}
