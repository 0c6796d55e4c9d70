// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"sync"

	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
)

// liveFile is the state of one sandbox's live file.
type liveFile struct {
	mu   sync.Mutex // held while the file is written or removed
	gone bool       // guarded by mu: it is not written any more
}

// LiveFile returns the folder that the sandbox's containers see, read-only; empty
// when they get none. The folder is there when the call returns, and the file in
// it as soon as the sandbox has been looked at. What hinders that is reported and
// costs containers their file, never their start.
func (e *Engine) LiveFile(id string) string {
	s, known := e.find(id)
	switch {
	case s != nil:
		if !s.selected.File || !e.publish(s) {
			return ""
		}
	case known:
		return ""
	default: // another process may have begun
		rec, err := e.records.Load(id)
		if err != nil || !rec.LiveFile || !netns.Exists(rec.NetNS.Path, rec.NetNS.Cookie) {
			return ""
		}
	}
	return e.records.LiveFolder(id)
}

// publish makes the sandbox's live file say what its record says; it is called
// whenever that has changed. It reports whether the folder is there.
func (e *Engine) publish(s *sandbox) bool {
	if !s.selected.File {
		return false
	}
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	if s.live.gone {
		return false
	}
	rec := s.record()
	if err := e.records.SaveLive(rec); err != nil {
		e.report(record.Event{Kind: record.KindRecord, Record: rec, Err: err})
		return false
	}
	return true
}

// withdraw removes the sandbox's live file for good. Containers that are still
// there see an empty folder.
func (e *Engine) withdraw(s *sandbox) {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	s.live.gone = true
	if !s.selected.File || e.succeeded(s) {
		return
	}
	if err := e.records.DeleteLive(s.id.ID); err != nil {
		e.report(record.Event{Kind: record.KindRecord, Record: s.record(), Err: err})
	}
}
