// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"slices"
)

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
	e.guard.Reappeared(wards(list)...)
}
