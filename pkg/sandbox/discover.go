// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
)

const (
	// callTimeout bounds one call to the sandbox store.
	callTimeout = time.Second
	// ownerDeadline is how long a namespace may be without an owner until that
	// is reported. containerd names it in the owner's record a moment after
	// making it; one that nobody names is not a sandbox's, or its record is
	// stuck behind a slow disk.
	ownerDeadline = 10 * time.Second
	// freshFor is how old a sandbox may be that has its network when it is found, and is
	// one that starts all the same: its first container takes as long on a node so busy.
	freshFor = 3 * time.Second
	// refreshKnown is how often the list of known ids is made anew.
	refreshKnown = 5 * time.Minute
)

// search is what discover knows of namespaces whose sandbox is not known yet. They can
// be all that a node has, at the start: nothing is done with all of them for each.
type search struct {
	pending   map[string]sighting // by the namespace's path
	names     byFile[string]      // paths of pending
	order     []string            // the paths in the order they were seen; some are not pending any more
	reported  map[string]bool     // those of pending that have been reported
	ahead     []named             // records that came before their namespace was heard of
	refreshed time.Time
}

// sighting is when a namespace was seen first.
type sighting struct {
	at   time.Time
	made bool // its file came then, or a moment before: while it was watched for
}

// named is a record that names a namespace which is not pending.
type named struct {
	record containerd.Record
	at     time.Time
}

func (n named) old() bool { return time.Since(n.at) > aheadFor }

// there tells that a namespace's file is there, as it is not of a pod that was stopped.
func there(path string) bool {
	if path == "" {
		return false
	}
	_, err := os.Lstat(path)
	return err == nil
}

const (
	// aheadFor is how long such a record is kept: what the kernel tells of a file waits
	// for a processor only. What is named in other directories is not heard of at all.
	aheadFor = time.Second
	// maxAhead is how many are kept. More are there at once only where this process
	// starts.
	maxAhead = 256
)

func newSearch() search {
	return search{pending: make(map[string]sighting), names: newByFile[string](), reported: make(map[string]bool)}
}

// listing is what the store has answered.
type listing struct {
	records []containerd.Record
	err     error
}

// discover finds the sandbox of each new namespace. It is the only goroutine
// that lists the store, one list at a time, which serves all namespaces that wait for an
// owner, and those that are heard of before the answer: where many sandboxes start
// at once it takes a while.
func (e *Engine) discover() {
	find := newSearch()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	answers, asking := make(chan listing, 1), false
	ask := func() {
		asking = true
		timer.Stop()
		known := e.listed(&find)
		e.wg.Go(func() { answers <- e.list(known) })
	}
	if e.opts.Store != nil {
		ask() // so that the status knows how the store is
	}
	for {
		if !asking {
			timer.Reset(e.pause(&find))
		}
		select {
		case event, ok := <-e.watcher.Events():
			if !ok {
				return
			}
			e.noticed(&find, event)
		case answer := <-answers:
			asking = false
			e.answered(&find, answer)
		case <-timer.C:
			if len(find.pending) > 0 {
				ask()
			}
		}
	}
}

// noticed takes a namespace that came or went.
func (e *Engine) noticed(find *search, event netns.Event) {
	switch event.Op {
	case netns.Added:
		e.appeared(event.Path)
		if e.opts.Store != nil {
			find.add(event.Path, event.New)
			find.ahead = slices.DeleteFunc(find.ahead, func(n named) bool { return n.old() || e.beginNamed(find, n.record) })
		}
	case netns.Removed:
		find.drop(event.Path)
		e.mournLater(e.namespaceGone(event.Path))
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
func (find *search) add(path string, made bool) {
	find.pending[path] = sighting{time.Now(), made}
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
			return seen.at
		}
		find.order = find.order[:last]
	}
	return time.Time{}
}

// list asks the store for the records of sandboxes that are not known.
func (e *Engine) list(known []string) listing {
	ctx, cancel := context.WithTimeout(e.ctx, callTimeout)
	defer cancel()
	records, err := e.opts.Store.List(ctx, known)
	return listing{records, err}
}

// answered begins the lives of the owners that the store has named.
func (e *Engine) answered(find *search, answer listing) {
	e.storeAnswered(answer.records, answer.err)
	now := time.Now()
	find.ahead = slices.DeleteFunc(find.ahead, named.old)
	for _, rec := range answer.records {
		switch {
		case e.beginNamed(find, rec):
		case rec.HostNetwork:
			e.mu.Lock()
			e.pass(rec.ID, "")
			e.mu.Unlock()
		case len(find.ahead) < maxAhead && there(rec.NetNSPath):
			find.ahead = append(find.ahead, named{rec, now})
		}
	}
	if answer.err != nil && answer.records == nil {
		return
	}
	for path, seen := range find.pending {
		// A known sandbox is not listed again, but its namespace is.
		if e.hasOwner(path) {
			find.drop(path)
		} else if time.Since(seen.at) > ownerDeadline && !find.reported[path] {
			find.reported[path] = true
			e.report(record.Event{Kind: record.KindUnidentified, Path: path})
		}
	}
	if time.Since(find.refreshed) > refreshKnown {
		find.refreshed = now
		e.forgetIgnored()
	}
}

// beginNamed begins the life of the sandbox whose record it is, if that names a pending
// namespace. Where CNI has finished by then, the pod may have run for a while, and is one
// that is taken over; not so where it was begun a moment ago, under the eyes of this
// process, and NRI has told nothing of it yet.
func (e *Engine) beginNamed(find *search, rec containerd.Record) bool {
	path := find.path(rec)
	if path == "" {
		return false
	}
	seen := find.pending[path]
	find.drop(path)
	id := identify(rec)
	id.NetNSPath = path
	ctx, cancel := context.WithTimeout(e.ctx, callTimeout)
	defer cancel()
	e.mu.Lock()
	_, told := e.undecided[rec.ID]
	e.mu.Unlock()
	fresh := seen.made && !told && time.Since(rec.Created) < freshFor
	comes := anew
	if rec.NetworkReady && !fresh {
		comes = takenOver
	}
	if s := e.begin(ctx, id, comes); s != nil && rec.NetworkReady {
		s.barrier.open()
	}
	return true
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

func identify(rec containerd.Record) record.Identity {
	return record.Identity{
		ID: rec.ID, Name: rec.Name, Namespace: rec.Namespace, UID: rec.UID,
		Handler: rec.Handler, Runtime: rec.Runtime, Annotations: rec.Annotations, NetNSPath: rec.NetNSPath,
	}
}

// listed are the ids that a list need not return.
func (e *Engine) listed(find *search) []string {
	e.mu.Lock()
	known := e.ids() // nobody writes to them
	e.mu.Unlock()
	if len(find.ahead) == 0 {
		return known
	}
	known = slices.Clone(known)
	for _, n := range find.ahead {
		known = append(known, n.record.ID)
	}
	return known
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
		e.report(record.Event{Kind: record.KindStore, Err: err})
	}
}
