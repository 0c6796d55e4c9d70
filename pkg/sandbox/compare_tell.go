// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"slices"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// events are what a comparison changed, each once; reportEach gives them the record.
func (c *comparison) events() (events []Event) {
	add := func(kind Kind, changes []Change) {
		if len(changes) > 0 {
			events = append(events, Event{Kind: kind, Changes: changes})
		}
	}
	withdrawn, returned := c.moved()
	if c.written || returned {
		events = append(events, Event{Kind: KindRepinned, Cause: c.cause.cause()})
	}
	add(KindWithdrawn, withdrawn)
	add(KindInsists, c.insists)
	stale, fresh := c.copies()
	add(KindStale, stale)
	add(KindFresh, fresh)
	return events
}

// noteEvents adds events to the sandbox's history.
func (s *sandbox) noteEvents(events []Event) {
	if len(events) == 0 {
		return
	}
	s.update(func(r *Record) {
		for _, event := range events {
			r.noteEvent(event)
		}
	})
}

// reportEach reports events about a sandbox, with its record as it is now.
func (e *Engine) reportEach(s *sandbox, events []Event) {
	rec := s.record()
	for _, event := range events {
		event.Record = rec
		e.report(event)
	}
}

// moved tells which gateways of a stack that is the kernel's lost their truth, and
// whether one has it again.
func (c *comparison) moved() (withdrawn []Change, returned bool) {
	for _, s := range c.after.Skipped {
		i := slices.IndexFunc(c.before.Neighbors, func(n neighbor.Neighbor) bool { return keyOf(n) == keyOfSkipped(s) })
		if i < 0 || s.Reason == ReasonInsists || s.Reason == ReasonPinFailed ||
			slices.ContainsFunc(c.after.Stale, func(stale Stale) bool { return stale.key() == keyOfSkipped(s) }) {
			continue
		}
		withdrawn = append(withdrawn, Change{Dst: s.Dst, Dev: s.Dev, Was: c.before.Neighbors[i].LLAddr, Reason: s.Reason, Message: s.Message})
	}
	for _, n := range c.after.Neighbors {
		returned = returned || slices.ContainsFunc(c.before.Skipped, func(s neighbor.Skipped) bool { return keyOfSkipped(s) == keyOf(n) })
	}
	return withdrawn, returned && len(c.before.Stale)+len(c.after.Stale) == 0
}
