// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"slices"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// events are what a comparison changed, each once; reportEach gives them the record.
func (c *comparison) events() (events []record.Event) {
	add := func(kind record.Kind, changes []record.Change) {
		if len(changes) > 0 {
			events = append(events, record.Event{Kind: kind, Changes: changes})
		}
	}
	withdrawn, returned := c.moved()
	if c.written || returned {
		events = append(events, record.Event{Kind: record.KindRepinned, Cause: causeOf(c.cause)})
	}
	add(record.KindWithdrawn, withdrawn)
	add(record.KindInsists, c.insists)
	stale, fresh := c.copies()
	add(record.KindStale, stale)
	add(record.KindFresh, fresh)
	return events
}

// noteEvents adds events to the sandbox's history.
func (s *sandbox) noteEvents(events []record.Event) {
	if len(events) == 0 {
		return
	}
	s.update(func(r *record.Record) {
		for _, event := range events {
			r.NoteEvent(event)
		}
	})
}

// reportEach reports events about a sandbox, with its record as it is now.
func (e *Engine) reportEach(s *sandbox, events []record.Event) {
	rec := s.record()
	for _, event := range events {
		event.Record = rec
		e.report(event)
	}
}

// moved tells which gateways of a stack that is the kernel's lost their truth, and
// whether one has it again.
func (c *comparison) moved() (withdrawn []record.Change, returned bool) {
	for _, s := range c.after.Skipped {
		i := slices.IndexFunc(c.before.Neighbors, func(n neighbor.Neighbor) bool { return n.Gateway() == s.Gateway() })
		if i < 0 || s.Reason == record.ReasonInsists || s.Reason == neighbor.ReasonPinFailed ||
			slices.ContainsFunc(c.after.Stale, func(stale record.Stale) bool { return stale.Gateway() == s.Gateway() }) {
			continue
		}
		withdrawn = append(withdrawn, record.Change{Dst: s.Dst, Dev: s.Dev, Was: c.before.Neighbors[i].LLAddr, Reason: s.Reason, Message: s.Message})
	}
	for _, n := range c.after.Neighbors {
		returned = returned || slices.ContainsFunc(c.before.Skipped, func(s neighbor.Skipped) bool { return s.Gateway() == n.Gateway() })
	}
	return withdrawn, returned && len(c.before.Stale)+len(c.after.Stale) == 0
}
