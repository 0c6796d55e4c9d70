// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// arrival says how a sandbox comes to be known.
type arrival int

const (
	anew      arrival = iota // it begins
	takenOver                // it was there before, and nobody of us has seen its beginning
)

// begin finds the sandbox or begins its life; nil when it is not selected.
func (e *Engine) begin(ctx context.Context, id record.Identity, comes arrival) *sandbox {
	if s, known := e.find(id.ID); known {
		return s
	}
	unknown := false
	if id.Runtime == "" && id.NetNSPath != "" && e.opts.Store != nil {
		id.Runtime, unknown = e.askType(ctx, id.ID, comes)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s, ok := e.sandboxes[id.ID]; ok {
		return s
	}
	if e.closed || !record.ValidID(id.ID) {
		return nil
	}
	selected := e.rules.Select(id)
	if !selected.Pin {
		// A pod of the default runtime whose type could not be asked for may
		// be selected once it is known.
		if !unknown || id.Handler != "" {
			e.pass(id.ID, id.NetNSPath)
		} else {
			e.undecide(id.ID)
		}
		return nil
	}
	s := newSandbox(e, id)
	s.selected, s.takenOver = selected, comes == takenOver
	living, cancel := context.WithTimeout(e.ctx, startDeadline)
	s.cancel = cancel
	e.keep(s)
	e.wg.Go(func() {
		defer cancel()
		e.live(living, s)
	})
	return s
}

// SetSelection decides about sandboxes that start from now on. Those that are known
// stay what they are, selected or not: what a runtime has read cannot be read
// again, and a pod that runs with its pins must not lose them.
func (e *Engine) SetSelection(rules selection.Rules) error {
	if err := rules.Validate(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rules = rules
	return nil
}

// find returns a sandbox that is known: nil for one that is not selected.
func (e *Engine) find(id string) (s *sandbox, known bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s, ok := e.sandboxes[id]; ok {
		return s, true
	}
	_, ignored := e.ignored[id]
	return nil, ignored
}

// askType asks the store for a sandbox's runtime type, which NRI does not tell,
// and tells once when the store has no record of a new sandbox.
func (e *Engine) askType(ctx context.Context, id string, comes arrival) (runtime string, unknown bool) {
	rec, err := e.opts.Store.Get(ctx, id)
	if err == nil && !rec.Stored && comes == anew {
		e.mu.Lock()
		said := e.storeless
		e.storeless = true
		e.mu.Unlock()
		if !said {
			e.report(record.Event{Kind: record.KindStoreless})
		}
	}
	return rec.Runtime, err != nil && !errors.Is(err, containerd.ErrNotFound)
}

// namespaceGone takes that a namespace's file has gone, and returns whose end that
// may be: whether it is has to be asked of the kernel, which may take its time.
func (e *Engine) namespaceGone(path string) (missed []*sandbox) {
	var gone []*sandbox
	e.mu.Lock()
	for _, s := range e.files.all(path) {
		if s.settled() {
			missed = append(missed, s)
		} else {
			gone = append(gone, s)
		}
	}
	for _, id := range e.ignoredFiles.all(path) {
		e.unpass(id)
	}
	e.mu.Unlock()
	e.guard.Vanished(wards(missed)...)
	// One whose life goes on keeps its namespace itself, by its sockets; should it
	// only have been out of sight, it is found again.
	for _, s := range gone {
		e.forget(s)
	}
	return missed
}

// bury ends the sandboxes whose namespace's file went and nobody told: before its
// directory was watched, or where none is.
func (e *Engine) bury() {
	e.mu.Lock()
	paths := make([]string, 0, len(e.sandboxes)+len(e.orphans))
	for _, sandboxes := range []map[string]*sandbox{e.sandboxes, e.orphans} {
		for _, s := range sandboxes {
			paths = append(paths, s.id.NetNSPath)
		}
	}
	e.mu.Unlock()
	for _, path := range paths {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			e.mourn(e.namespaceGone(path))
		}
	}
}

// forget ends a sandbox's life and removes its record.
func (e *Engine) forget(s *sandbox) {
	s.stop()
	e.guard.Drop(s.ward)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || !e.drop(s) {
		return
	}
	e.wg.Go(func() {
		e.unobserve(s)
		<-s.done.opened()
		e.removeRecord(s)
	})
}
