// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// lookAgain is how often a watched directory is compared with the one its path
// leads to. Only a mount over a watched directory needs it: inotify goes on
// watching what lies under the mount and tells nobody.
const lookAgain = 10 * time.Second

// Op says what became of a name.
type Op int

const (
	// Added means that a file is there now. Its namespace may be mounted on it
	// only a moment later, see OpenMounted.
	Added Op = iota + 1
	// Removed means that the file is gone.
	Removed
)

// String returns the name of the operation in lower case.
func (o Op) String() string {
	switch o {
	case Added:
		return "added"
	case Removed:
		return "removed"
	}
	return fmt.Sprintf("Op(%d)", int(o))
}

// Event is a change in a watched directory.
type Event struct {
	Path string // the directory as given to NewWatcher, cleaned, and the file's name
	Op   Op
	// New, with Added, tells that the file was made, or moved there, while the directory was watched.
	// One that was found by listing the directory, at the start or after
	// events were lost, may be older.
	New bool
}

// Watcher reports the files that come and go in directories where runtimes keep
// network namespaces.
//
// For each path Added and Removed alternate, starting with Added. A path that
// was removed and made anew while events were lost shows neither, so whoever
// remembers namespaces by path has to compare cookies.
type Watcher struct {
	dirs   []string
	events chan Event

	// Of the goroutine that Start makes, once it runs.
	notify *fsnotify.Watcher
	known  map[string]struct{}    // files reported as Added
	armed  map[string]os.FileInfo // what inotify watches: a directory of ours, or where it will appear

	mu      sync.Mutex // guards the following
	started bool
	closed  bool
	cancel  context.CancelFunc
	done    chan struct{}
}

// NewWatcher prepares to watch the directories. One that does not exist is
// waited for. The Watcher has to be closed.
func NewWatcher(dirs []string) (*Watcher, error) {
	if len(dirs) == 0 {
		return nil, errors.New("watch network namespaces: no directory given")
	}
	w := &Watcher{
		events: make(chan Event),
		known:  make(map[string]struct{}),
		armed:  make(map[string]os.FileInfo),
		done:   make(chan struct{}),
	}
	for _, dir := range dirs {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("watch network namespaces in %s: %w", quote(dir), err)
		}
		if !slices.Contains(w.dirs, abs) {
			w.dirs = append(w.dirs, abs)
		}
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch network namespaces: make inotify instance: %w", err)
	}
	w.notify = notify
	return w, nil
}

// Events returns the channel that changes are sent on, first an Added for each
// file that is there already. It is closed when the watching ends. Nothing is
// lost while nobody receives: the kernel's queue may overflow meanwhile, and
// then the directories are listed again.
func (w *Watcher) Events() <-chan Event { return w.events }

// Start begins to watch and returns; the watching ends with ctx or with Close.
// The error says which directory could not be watched. Start works once.
func (w *Watcher) Start(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.started || w.closed {
		return errors.New("watch network namespaces: started or closed before")
	}
	if err := w.arm(); err != nil {
		return err
	}
	ctx, w.cancel = context.WithCancel(ctx)
	w.started = true
	go func() {
		defer close(w.done)
		defer close(w.events)
		w.run(ctx)
	}()
	return nil
}

// Close ends the watching, waits for that, and lets go of the inotify instance.
// Closing again does nothing.
func (w *Watcher) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.closed = true
	if w.started {
		w.cancel()
		<-w.done
	} else {
		close(w.events)
	}
	// It waits for its own goroutine; nothing it could return is left to act on.
	_ = w.notify.Close()
}

func (w *Watcher) run(ctx context.Context) {
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	if !w.list(ctx) {
		return
	}
	for {
		ok := true
		select {
		case <-ctx.Done():
			return
		case ev, open := <-w.notify.Events:
			ok = open && w.handle(ctx, ev)
		case _, open := <-w.notify.Errors:
			// Mostly fsnotify.ErrEventOverflow. Whatever it is, events may be
			// missing, and looking again is the answer.
			ok = open && w.refresh(ctx)
		case <-again.C:
			ok = !w.moved() || w.refresh(ctx)
		}
		if !ok {
			return
		}
	}
}

// handle passes on one inotify event. It returns false when ctx has ended.
func (w *Watcher) handle(ctx context.Context, ev fsnotify.Event) bool {
	if ev.Name == "" {
		return true
	}
	if !slices.Contains(w.dirs, filepath.Dir(ev.Name)) || slices.Contains(w.dirs, ev.Name) {
		// Not a file in a directory of ours. It matters when it is such a
		// directory, or lies on the way to one.
		for _, dir := range w.dirs {
			if dir == ev.Name || strings.HasPrefix(dir, ev.Name+"/") {
				return w.refresh(ctx)
			}
		}
		return true
	}
	switch {
	case ev.Has(fsnotify.Create):
		return w.add(ctx, Event{Path: ev.Name, Op: Added, New: true})
	case ev.Has(fsnotify.Remove), ev.Has(fsnotify.Rename):
		return w.remove(ctx, ev.Name)
	}
	return true
}

func (w *Watcher) add(ctx context.Context, ev Event) bool {
	if _, dup := w.known[ev.Path]; dup {
		return true
	}
	if info, err := os.Stat(ev.Path); err != nil || info.IsDir() {
		return true // gone again, or nothing that a namespace is mounted on
	}
	w.known[ev.Path] = struct{}{}
	return w.send(ctx, ev)
}

func (w *Watcher) remove(ctx context.Context, path string) bool {
	if _, ok := w.known[path]; !ok {
		return true
	}
	delete(w.known, path)
	return w.send(ctx, Event{Path: path, Op: Removed})
}

func (w *Watcher) send(ctx context.Context, ev Event) bool {
	select {
	case w.events <- ev:
		return true
	case <-ctx.Done():
		return false
	}
}

// refresh watches what there is to watch by now and reports the difference
// between what was reported and what is there.
func (w *Watcher) refresh(ctx context.Context) bool {
	// What cannot be watched now is tried again by moved, and listed below
	// all the same.
	_ = w.arm()
	return w.list(ctx)
}

func (w *Watcher) list(ctx context.Context) bool {
	there := make(map[string]struct{})
	for _, dir := range w.dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			// Unreadable for the moment: keep what is known of it.
			for path := range w.known {
				if filepath.Dir(path) == dir {
					there[path] = struct{}{}
				}
			}
			continue
		}
		for _, e := range entries {
			there[filepath.Join(dir, e.Name())] = struct{}{}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(w.known)) {
		if _, ok := there[path]; !ok && !w.remove(ctx, path) {
			return false
		}
	}
	for _, path := range slices.Sorted(maps.Keys(there)) {
		if !w.add(ctx, Event{Path: path, Op: Added}) {
			return false
		}
	}
	return true
}
