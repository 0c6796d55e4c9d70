// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"slices"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

// Gone tells whether the sandbox's namespace has ended, as far as this process can
// see. That its file is not there is not enough: the directory can be out of sight
// for a moment, or another be mounted over it. As long as the host has the other
// end of one of the sandbox's links, and that leads somewhere else, the namespace
// is there, since both ends of a pair end together. Of a sandbox without such a
// link its file is all there is to go by.
// It takes at most a second.
func (r Record) Gone(ctx context.Context) bool {
	if r.NetNS.Cookie != 0 && netns.Exists(r.NetNS.Path, r.NetNS.Cookie) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	for _, end := range r.Ends {
		if leads, err := neighbor.LeadsOut(ctx, end); err != nil || leads {
			return false // or cannot be looked at
		}
	}
	return true
}

// mournLater is mourn in nobody's way: pods that end are not to hold up those that
// start.
func (e *Engine) mournLater(missed []*sandbox) {
	if len(missed) == 0 {
		return
	}
	e.wg.Go(func() {
		select {
		case e.mourning <- struct{}{}:
			defer func() { <-e.mourning }()
			e.mourn(missed)
		case <-e.ctx.Done():
		}
	})
}

// mourn forgets those sandboxes, of which nobody works at the moment, whose
// namespace has ended.
func (e *Engine) mourn(missed []*sandbox) {
	for _, s := range missed {
		if !s.record().Gone(e.ctx) {
			continue
		}
		e.mu.Lock()
		orphan := e.met(s)
		e.mu.Unlock()
		if orphan {
			e.removeRecord(s)
		} else {
			e.forget(s)
		}
	}
}

// appeared has the sandboxes compared whose namespace's file is there again.
func (e *Engine) appeared(path string) {
	e.mu.Lock()
	list := slices.DeleteFunc(e.files.all(path), func(s *sandbox) bool { return e.sandboxes[s.id.ID] != s || !s.settled() })
	e.mu.Unlock()
	e.guard.reappeared(list)
}
