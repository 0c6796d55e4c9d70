// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"io/fs"

	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// load takes one record of an earlier process. Several are taken at once.
func (e *Engine) load(rec record.Record) {
	s := newSandbox(e, rec.Identity())
	s.rec, s.loaded = &rec, true
	s.selected = selection.Choice{Pin: true, Annotate: rec.Annotated, File: rec.LiveFile}
	s.finish()
	switch {
	case rec.Gone(e.ctx):
		e.removeRecord(s)
	case rec.ByHand():
		// Nobody's sandbox; "neighpin unpin" takes it away.
	case rec.Phase == record.Starting:
		// Found again by its namespace, unless the pod is not selected now; its
		// record tells which entries are ours.
		e.mu.Lock()
		e.orphan(s)
		e.mu.Unlock()
	default:
		e.mu.Lock()
		e.keep(s)
		e.mu.Unlock()
		e.publish(s)
		// Written with what is written next: a start costs no writing.
		s.update(func(r *record.Record) { r.Note(record.KindAdopted, "by another process, from the record") })
		e.report(record.Event{Kind: record.KindAdopted, Record: rec})
		e.guard.Take(s.ward, guard.Takeover)
		e.tendLater(s)
	}
}

// inherit takes over what the sandbox's record on disk says, if it is of the
// same namespace.
func (e *Engine) inherit(s *sandbox) {
	rec := s.record()
	old, err := e.records.Load(rec.ID)
	switch {
	case err == nil && old.NetNS.Cookie == rec.NetNS.Cookie:
		s.update(func(r *record.Record) {
			r.TakeFrom(old)
			r.TakeHistory(old)
			r.Repins, r.Refused = old.Repins, old.Refused
		})
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		e.report(record.Event{Kind: record.KindRecord, Record: rec, Err: err})
	}
}

// succeeded tells that another sandbox has the id by now: what is on disk under
// it is that one's. Ids are unique, but the end of a sandbox that was removed may
// still be under way when somebody says that it is there.
func (e *Engine) succeeded(s *sandbox) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	other, ok := e.sandboxes[s.id.ID]
	return ok && other != s
}

// removeRecord removes the sandbox's record for good.
func (e *Engine) removeRecord(s *sandbox) {
	e.withdraw(s)
	e.leave(s)
	s.file.Lock()
	defer s.file.Unlock()
	if s.removed {
		return // its end was seen twice
	}
	s.removed = true
	if !e.succeeded(s) {
		if err := e.records.Delete(s.id.ID); err != nil {
			e.report(record.Event{Kind: record.KindRecord, Record: s.record(), Err: err})
			return
		}
	}
	e.report(record.Event{Kind: record.KindReleased, Record: s.record()})
}

// save writes the sandbox's record. When two processes serve one node, both
// write: the stronger proof of time is kept, and what it is the proof of.
func (e *Engine) save(s *sandbox) {
	s.file.Lock()
	defer s.file.Unlock()
	if s.removed || e.succeeded(s) {
		return
	}
	err := e.records.Merge(s.record(), s.stronger)
	e.publish(s)
	if err != nil {
		e.report(record.Event{Kind: record.KindRecord, Record: s.record(), Err: err})
	}
}

// stronger is what is written of a sandbox where old is on disk.
func (s *sandbox) stronger(old, rec record.Record) record.Record {
	if old.NetNS.Cookie != rec.NetNS.Cookie {
		return rec
	}
	if len(rec.Addresses) == 0 && len(old.Addresses) > 0 {
		// Another process looked at the host for these; whoever sees the sandbox's
		// end takes away what it wrote there.
		take := func(r *record.Record) {
			if len(r.Addresses) == 0 {
				r.Addresses, r.HostState, r.ReturnPath = old.Addresses, old.HostState, old.ReturnPath
			}
		}
		take(&rec)
		s.update(take)
	}
	if !old.Timing.Verdict.StrongerThan(rec.Timing.Verdict) {
		return rec
	}
	take := func(r *record.Record) {
		r.Timing = old.Timing
		if len(r.Neighbors) == 0 {
			r.TakeFrom(old)
		}
	}
	take(&rec)
	s.update(take) // which may be newer than rec by now
	return rec
}
