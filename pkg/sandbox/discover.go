// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"time"

	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/netns"
)

const (
	// callTimeout bounds one call to the sandbox store.
	callTimeout = time.Second
	// ownerDeadline is how long a namespace may be without an owner until that
	// is reported. containerd names it in the owner's record a moment after
	// making it; one that nobody names is not a sandbox's, or its record is
	// stuck behind a slow disk.
	ownerDeadline = 10 * time.Second
	// refreshKnown is how often the list of known ids is made anew.
	refreshKnown = 5 * time.Minute
)

// search is the state of the goroutine that finds the owners of namespaces. Pending may
// be all that a node has, at the start: nothing is done with all of them for each.
type search struct {
	pending   map[string]time.Time // namespace path to when it was seen
	names     byFile[string]       // paths of pending
	order     []string             // the paths in the order they were seen; some are not pending any more
	reported  map[string]bool      // those of pending that have been reported
	refreshed time.Time
}

func newSearch() search {
	return search{pending: make(map[string]time.Time), names: newByFile[string](), reported: make(map[string]bool)}
}

// discover finds the sandbox of each new namespace. It is the only goroutine
// that lists the store: one list serves all namespaces that wait for an owner.
func (e *Engine) discover() {
	find := newSearch()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	if e.opts.Store != nil {
		e.findOwners(&find) // so that the status knows how the store is
	}
	for {
		timer.Reset(e.pause(&find))
		select {
		case event, ok := <-e.watcher.Events():
			if !ok {
				return
			}
			switch event.Op {
			case netns.Added:
				e.appeared(event.Path)
				if e.opts.Store != nil {
					find.add(event.Path)
				}
			case netns.Removed:
				find.drop(event.Path)
				e.mournLater(e.namespaceGone(event.Path))
			}
			continue // take all that is there before asking
		case <-timer.C:
		}
		if len(find.pending) > 0 {
			e.findOwners(&find)
		}
	}
}

// pause says how long to wait before the store is asked again. The owner's record
// is written within milliseconds of the namespace's file, and CNI takes some tens of
// them after that. So a namespace is asked for often while it is young, and less
// and less: its owner is found by one and a half times the time that containerd
// took to name it.
func (e *Engine) pause(find *search) time.Duration {
	if len(find.pending) == 0 {
		return time.Hour
	}
	if !e.storeUp() {
		return 250 * time.Millisecond
	}
	age := time.Since(find.youngest())
	switch {
	case age < time.Second:
		return min(max(age/2, time.Millisecond), 10*time.Millisecond)
	case age < ownerDeadline:
		return 100 * time.Millisecond
	}
	return 5 * time.Second
}

// add begins the search for a namespace's owner.
func (find *search) add(path string) {
	find.pending[path] = time.Now()
	find.names.add(path, path)
	find.order = append(find.order, path)
}

// drop ends it.
func (find *search) drop(path string) {
	delete(find.pending, path)
	delete(find.reported, path)
	find.names.remove(path, path)
}

// youngest is when the last of those that are pending was seen.
func (find *search) youngest() time.Time {
	for last := len(find.order) - 1; last >= 0; last-- {
		if seen, ok := find.pending[find.order[last]]; ok {
			return seen
		}
		find.order = find.order[:last]
	}
	return time.Time{}
}

// findOwners asks the store once and begins the lives of the owners it names.
func (e *Engine) findOwners(find *search) {
	if time.Since(find.refreshed) > refreshKnown {
		find.refreshed = time.Now()
		e.forgetIgnored()
	}
	ctx, cancel := context.WithTimeout(e.ctx, callTimeout)
	defer cancel()
	records, err := e.opts.Store.List(ctx, e.listed())
	e.storeAnswered(records, err)
	for _, rec := range records {
		path := find.path(rec)
		if path == "" {
			if rec.HostNetwork {
				e.mu.Lock()
				e.pass(rec.ID, "")
				e.mu.Unlock()
			}
			continue
		}
		find.drop(path)
		id := identify(rec)
		id.NetNSPath = path
		if s := e.begin(ctx, id, rec.NetworkReady); s != nil && rec.NetworkReady {
			s.barrier.open()
		}
	}
	if err != nil && records == nil {
		return
	}
	for path, seen := range find.pending {
		// A known sandbox is not listed again, but its namespace is.
		if e.hasOwner(path) {
			find.drop(path)
		} else if time.Since(seen) > ownerDeadline && !find.reported[path] {
			find.reported[path] = true
			e.report(Event{Kind: KindUnidentified, Path: path})
		}
	}
}

// path is the pending namespace that a record names; empty when it names none.
func (find *search) path(rec containerd.Record) string {
	if rec.NetNSPath == "" {
		return ""
	}
	if _, ok := find.pending[rec.NetNSPath]; ok {
		return rec.NetNSPath
	}
	if same := find.names.all(rec.NetNSPath); len(same) > 0 {
		return same[0]
	}
	return ""
}

func identify(rec containerd.Record) Identity {
	return Identity{
		ID: rec.ID, Name: rec.Name, Namespace: rec.Namespace, UID: rec.UID,
		Handler: rec.Handler, Runtime: rec.Runtime, Annotations: rec.Annotations, NetNSPath: rec.NetNSPath,
	}
}

// listed are the ids that a list need not return; nobody writes to them.
func (e *Engine) listed() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ids()
}

// forgetIgnored drops the ids of sandboxes that need nothing and whose end nobody
// tells: pods on the host's network, and namespaces outside the watched
// directories that are gone. The others stay, so that a list leaves them out:
// all records of a node at once can be more than a message holds.
func (e *Engine) forgetIgnored() {
	e.mu.Lock()
	ignored := maps.Clone(e.ignored)
	e.mu.Unlock()
	maps.DeleteFunc(ignored, func(_, path string) bool {
		_, err := os.Lstat(path)
		return path != "" && !errors.Is(err, fs.ErrNotExist)
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range ignored {
		e.unpass(id)
	}
}

// hasOwner tells that a sandbox, selected or not, is known to have the namespace.
func (e *Engine) hasOwner(path string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.owned(path)
}

func (e *Engine) storeUp() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.storeErr == nil
}

// storeAnswered notes how the store is, and tells when that changes. Records
// beside an error mean that some other records could not be decoded: the store
// is up.
func (e *Engine) storeAnswered(records []containerd.Record, err error) {
	if e.ctx.Err() != nil {
		return // stopping, which is none of the store's doing
	}
	down := err
	if records != nil {
		down = nil
	}
	e.mu.Lock()
	changed := !e.storeSeen || (down == nil) != (e.storeErr == nil) || (err != nil && down == nil && !e.storeTorn)
	e.storeErr, e.storeSeen, e.storeTorn = down, true, err != nil && down == nil
	e.mu.Unlock()
	if changed {
		e.report(Event{Kind: KindStore, Err: err})
	}
}
