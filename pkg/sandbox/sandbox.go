// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// latch opens once and stays open. Its zero value is shut. It has a channel of its own
// only while somebody may be waiting: every sandbox has eight of these for its whole life.
type latch struct {
	c atomic.Pointer[chan struct{}] // nil: shut, and nobody waits; passed: open
}

// passed is the closed channel of all latches that are open.
var passed = func() *chan struct{} {
	c := make(chan struct{})
	close(c)
	return &c
}()

func (l *latch) open() {
	if waited := l.c.Swap(passed); waited != nil && waited != passed {
		close(*waited)
	}
}

// opened returns a channel that is closed as soon as the latch is open.
func (l *latch) opened() <-chan struct{} {
	if l.c.Load() == nil {
		c := make(chan struct{})
		l.c.CompareAndSwap(nil, &c) // another may have been quicker
	}
	return *l.c.Load()
}

func (l *latch) isOpen() bool { return l.c.Load() == passed }

// sandbox is one selected sandbox while the engine knows it.
type sandbox struct {
	engine    *Engine
	ward      *guard.Ward
	id        record.Identity
	selected  selection.Choice
	takenOver bool // it was there before this process
	loaded    bool // an earlier process had it, and has a record of it

	barrier   latch // CNI has finished, says NRI
	started   latch // the runtime has it, or waits for NRI's answer before it has
	answered  latch // that answer is given
	container latch // its first container is being created
	pinned    latch // the first attempt to pin is over
	ahead     latch // pinned while the runtime waited for the answer; see firstPinned
	done      latch // its goroutine has ended
	admitted  latch // it may start, whatever comes; see admit

	file    sync.Mutex // held while the record's file is written or removed
	removed bool       // guarded by file: it is not written any more

	host sync.Mutex // held while something is done on the host for it
	left bool       // guarded by host: nothing is done any more

	live liveFile

	// replaced counts the pins that somebody in the sandbox replaced by an entry of
	// their own. It belongs to whose turn it is to work on the sandbox.
	replaced map[neighbor.Gateway]int // nil: none
	// unobserved is why the sandbox is not observed, as it was told. It belongs to
	// the guard's worker.
	unobserved string

	mu          sync.Mutex                   // guards the following
	tended      bool                         // somebody does what is to be done on the host for it
	tendAgain   bool                         // and is to do it once more
	cancel      context.CancelFunc           // ends its goroutine; nil when there is none
	rec         *record.Record               // nil while packed has it
	packed      record.Packed                // once its goroutine has ended
	heard       map[neighbor.Gateway]hearing // what came of asking for gateways
	askError    string                       // why asking failed, if it did
	containerAt time.Time                    // when container was opened
}

func newSandbox(e *Engine, id record.Identity) *sandbox {
	id.Annotations = nil // up to 256 KiB of a tenant's; they have been asked
	own(&id)
	for _, repeated := range []*string{&id.Namespace, &id.Handler, &id.Runtime} {
		*repeated = unique.Make(*repeated).Value() // many sandboxes have the same
	}
	s := &sandbox{engine: e, id: id, rec: record.New(id)}
	s.ward = guard.NewWard(s)
	return s
}

// own gives an identity texts of its own, in one piece. Those that it comes with lie
// among the rest of a message or a file, of which thousands are read one after the
// other when a node is taken over, and would keep the pages of all that.
func own(id *record.Identity) {
	all := id.ID + id.Name + id.UID + id.NetNSPath
	for _, text := range []*string{&id.ID, &id.Name, &id.UID, &id.NetNSPath} {
		n := len(*text)
		*text, all = all[:n], all[n:]
	}
}

// finish marks a sandbox that needs no goroutine (any more).
func (s *sandbox) finish() {
	s.mu.Lock()
	s.cancel = nil
	s.rest(s.now())
	s.mu.Unlock()
	s.pinned.open()
	s.done.open()
}

// stop ends the sandbox's goroutine, if it has one.
func (s *sandbox) stop() {
	s.mu.Lock()
	cancel := s.cancel
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// containerComes notes the first container's creation.
func (s *sandbox) containerComes() {
	s.mu.Lock()
	if s.containerAt.IsZero() {
		s.containerAt = time.Now()
	}
	s.mu.Unlock()
	s.container.open()
}

// containerCame is when the first container's creation was noted.
func (s *sandbox) containerCame() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.containerAt
}

// settled tells that no goroutine works for the sandbox.
func (s *sandbox) settled() bool { return s.done.isOpen() }

// wait returns when the first attempt to pin is over, or with the context.
func (s *sandbox) wait(ctx context.Context) {
	within(ctx, s.pinned.opened())
}

func (s *sandbox) record() record.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}

// now is record for who has the lock.
func (s *sandbox) now() record.Record {
	if s.rec == nil {
		return s.packed.Unpack(s.id)
	}
	return *s.rec
}

// rest keeps the record in as little memory as it takes.
func (s *sandbox) rest(rec record.Record) {
	if s.packed = record.Pack(s.id, rec); s.packed == "" {
		s.rec = &rec
	} else {
		s.rec = nil
	}
}

// update changes the record. Slices in it are replaced, never written to, so
// copies given out stay as they are.
func (s *sandbox) update(change func(*record.Record)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rec == nil || s.cancel == nil && s.settled() {
		rec := s.now()
		change(&rec)
		s.rest(rec)
		return
	}
	change(s.rec)
}
