// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/neighpin/neighpin/pkg/containerd"
)

// fakeStore stands in for containerd's sandbox store, so that a test decides
// when CNI "finishes". The real one is met in the suite on containerd.
type fakeStore struct {
	mu      sync.Mutex
	records map[string]containerd.Record
	gets    int
	err     error
	hang    bool          // Get answers nothing until its caller gives up
	given   time.Duration // which is after this
	lists   int           // how often List was called
	let     chan struct{} // if set: each List waits for one of these, and answers as it is then
}

func (f *fakeStore) List(ctx context.Context, known []string) ([]containerd.Record, error) {
	f.mu.Lock()
	f.lists++
	let := f.let
	f.mu.Unlock()
	if let != nil {
		select {
		case <-let:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	list := []containerd.Record{}
	for id, rec := range f.records {
		if rec.Stored && !slices.Contains(known, id) {
			list = append(list, rec)
		}
	}
	return list, nil
}

func (f *fakeStore) Get(ctx context.Context, id string) (containerd.Record, error) {
	f.mu.Lock()
	hang := f.hang
	if deadline, ok := ctx.Deadline(); ok && hang {
		f.given = time.Until(deadline)
	}
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return containerd.Record{}, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gets++
	rec, ok := f.records[id]
	switch {
	case f.err != nil:
		return containerd.Record{}, f.err
	case !ok:
		return containerd.Record{}, containerd.ErrNotFound
	}
	return rec, nil
}

// put writes a record that lists show; keep writes one as it is.
func (f *fakeStore) put(rec containerd.Record) {
	rec.Stored = true
	if rec.Created.IsZero() {
		rec.Created = time.Now()
	}
	f.keep(rec)
}

func (f *fakeStore) keep(rec containerd.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.records == nil {
		f.records = make(map[string]containerd.Record)
	}
	f.records[rec.ID] = rec
}

// remove takes a record away.
func (f *fakeStore) remove(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.records, id)
}

func (f *fakeStore) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// letOne makes lists wait until they are let through, one by one.
func (f *fakeStore) letOne() (let func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := make(chan struct{}, 1)
	f.let = c
	return func() { c <- struct{}{} }
}

// listed returns how often List was called.
func (f *fakeStore) listed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lists
}

// asked returns how often Get was called.
func (f *fakeStore) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gets
}
