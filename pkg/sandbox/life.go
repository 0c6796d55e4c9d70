// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
)

const (
	// startDeadline bounds the life of a sandbox's goroutine: a CNI plugin and
	// the pull of an image can take minutes, not more than this.
	startDeadline = 15 * time.Minute
	// mountDeadline bounds the moment between the namespace's file and its
	// bind mount.
	mountDeadline = 5 * time.Second
	// shrinkDelay is how long a gateway's route may be gone before that counts
	// as a change of the network: a runtime that takes the namespace removes
	// the routes first and says so with an RTM_DELADDR right after.
	shrinkDelay = time.Second
	// maxApplies bounds how often one sandbox is resolved anew while it starts,
	// so that a namespace which never rests costs a bounded amount of work.
	maxApplies = 200
)

// errTaken says that a runtime has taken addresses and routes away already.
var errTaken = errors.New("the runtime has already taken the namespace's addresses and routes; nothing is left to capture")

// errRecordLost says that what an earlier process knew cannot be read any more.
var errRecordLost = errors.New("the sandbox's record was broken and the runtime has taken the namespace: whether it was pinned is not known, and new containers of it get no annotation")

// errEventsEnded says that the socket which listens in the namespace failed.
var errEventsEnded = errors.New("events of the namespace ended before the sandbox had started")

// errRestless says that a namespace changed more often than is reasonable.
var errRestless = fmt.Errorf("namespace changed more than %d times while it started; nothing is proven of it, and its pins are repaired at longer intervals", maxApplies)

// live is one sandbox's goroutine, from its identification until it has started,
// is gone, or has taken too long. All sockets in the namespace end with it.
func (e *Engine) live(ctx context.Context, s *sandbox) {
	nudge := e.guard.Watch(s.ward)
	defer e.settle(ctx, s)
	ns, err := e.open(ctx, s)
	if err != nil {
		e.noNamespace(ctx, s, err)
		return
	}
	l := &life{engine: e, sandbox: s, nudge: nudge, held: make(map[neighbor.Gateway]bool), down: make(map[string]bool)}
	defer l.close()
	err = l.attach(ns)
	// The sockets keep the namespace alive as well; a descriptor more does not
	// help, and containers that outlive their pod do not need it.
	if closeErr := ns.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = l.run(ctx)
	}
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		// Said, not only stopped: nothing will be proven or repaired any more.
		e.fail(s, err)
		l.conclude(record.Unproven, 0)
	}
}

// settle hands a sandbox from the goroutine of its life to the guard, which looks
// at it once more: nothing of what happened in between is lost. One that is gone,
// or is coming to its end, is left alone.
func (e *Engine) settle(ctx context.Context, s *sandbox) {
	s.finish()
	e.mu.Lock()
	lives := e.sandboxes[s.id.ID] == s && !errors.Is(ctx.Err(), context.Canceled)
	e.mu.Unlock()
	if lives {
		e.guard.Take(s.ward, guard.Event)
	} else {
		e.guard.Drop(s.ward)
	}
}

// open opens the sandbox's namespace, which is refused when it is the host's,
// and takes over the record that an earlier or another process wrote for it.
func (e *Engine) open(ctx context.Context, s *sandbox) (*netns.NS, error) {
	mounting, cancel := context.WithTimeout(ctx, mountDeadline)
	defer cancel()
	ns, err := e.host.OpenMounted(mounting, s.id.NetNSPath)
	if err != nil {
		return nil, err
	}
	s.update(func(r *record.Record) {
		r.NetNS = record.NetNS{Path: s.id.NetNSPath, Cookie: ns.Cookie()}
		r.Annotated, r.LiveFile = s.selected.Annotate, s.selected.File
	})
	e.inherit(s)
	s.update(func(r *record.Record) {
		if s.takenOver {
			r.Note(record.KindFound, "it was there before this process")
		} else {
			r.Note(record.KindFound, "new")
		}
	})
	return ns, nil
}

// noNamespace ends the life of a sandbox whose namespace could not be opened.
// One that is gone is no failure: stopped pods are listed long after. One that
// is the host's belongs to a pod on the host's network (CRI-O names it so).
func (e *Engine) noNamespace(ctx context.Context, s *sandbox, err error) {
	gone := errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil
	if !gone && !errors.Is(err, netns.ErrHost) {
		e.fail(s, err)
	}
	e.mu.Lock()
	if e.drop(s) && errors.Is(err, netns.ErrHost) {
		e.pass(s.id.ID, s.id.NetNSPath)
	}
	e.mu.Unlock()
	if errors.Is(err, fs.ErrNotExist) {
		e.removeRecord(s)
	}
}

// batch is what one read of the namespace's events returned.
type batch struct {
	at     time.Time
	events []neighbor.Event
}

// life is the state of live's goroutine.
type life struct {
	engine  *Engine
	sandbox *sandbox
	table   *neighbor.Table
	watch   *neighbor.Watcher
	batches chan batch
	nudge   <-chan struct{} // something outside the namespace concerns it

	asked       bool                           // the runtime had asked, through NRI, before the first look
	ahead       time.Time                      // ackedAt of the pins that stood before it was answered
	lastWithout time.Time                      // when the record was last read without a CNI result
	early       bool                           // an address went between that and CNI's result
	down        map[string]bool                // links that are down
	held        map[neighbor.Gateway]bool      // desired pins: seen in the kernel and not lost since
	stood       map[neighbor.Gateway]bool      // at the last look, and not seen lost since
	ackedAt     time.Time                      // when the kernel acknowledged the last pin
	waited      time.Duration                  // for the kernel's lock on links then, at most; see lockWait
	again       map[neighbor.Gateway]time.Time // and of one whose loss was found before its event was read
	writes      int                            // how often something had to be written
	applies     int
	pace        guard.Pace // of the looks that nudges lead to
	shrunk      bool       // the last resolution misses a gateway that is pinned
	overran     bool       // events were lost since the last resolution
	announced   bool       // the first pins have been reported
	concluded   bool       // the verdict is in
}

// attach opens the sockets in the namespace, the one that listens first.
func (l *life) attach(ns *netns.NS) error {
	watch, err := neighbor.Watch(ns)
	if err != nil {
		return err
	}
	l.watch = watch
	// Buffered, so that events get their time when they come, not when the
	// sandbox's goroutine is back from writing a record.
	l.batches = make(chan batch, 64)
	l.engine.wg.Go(l.pump)
	l.table, err = neighbor.Open(ns)
	return err
}

func (l *life) close() {
	if l.watch != nil {
		// Ends pump, too: it is the only reader, and Close wakes it.
		_ = l.watch.Close()
		for range l.batches { // until pump has closed it
		}
	}
	if l.table != nil {
		_ = l.table.Close()
	}
}

// pump reads events until the watcher is closed.
func (l *life) pump() {
	defer close(l.batches)
	for {
		events, err := l.watch.Receive()
		if err != nil {
			return
		}
		l.batches <- batch{time.Now(), events}
	}
}

// run waits for CNI's result, pins at once, and keeps the pins until the
// sandbox has started.
func (l *life) run(ctx context.Context) error {
	if err := l.awaitNetwork(ctx); err != nil {
		return err
	}
	l.asked = l.sandbox.started.isOpen()
	err := l.firstApply(ctx)
	if errors.Is(err, errTaken) {
		return l.missed(err)
	}
	if err != nil && len(l.held) == 0 {
		return err
	}
	if err != nil {
		// Some are pinned, and the rest may be when something changes.
		l.engine.fail(l.sandbox, err)
	}
	l.noteAddresses(ctx)
	if !l.sandbox.Questions().First {
		l.firstPinned()
	}
	l.engine.tendLater(l.sandbox)
	return l.keep(ctx)
}

// firstApply pins for the first time. What the kernel refuses for the moment,
// such as a dump that changes interrupt, is tried again.
func (l *life) firstApply(ctx context.Context) error {
	var err error
	for pause := time.Millisecond; pause < 100*time.Millisecond; pause *= 3 {
		if err = l.apply(ctx, keepUnrouted); err == nil || errors.Is(err, errTaken) || len(l.held) > 0 {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// unrouted says what becomes of gateways that are pinned and no longer routed to.
type unrouted int

const (
	keepUnrouted unrouted = iota // for the moment: see shrinkDelay
	dropUnrouted
)

// apply reads what is true now and pins it.
func (l *life) apply(ctx context.Context, gone unrouted) error {
	if l.applies++; l.applies > maxApplies {
		return errRestless
	}
	s := l.sandbox
	began := time.Now()
	before := s.record()
	heard := l.engine.learned(s)
	// One that was there before us, or has its first container, is its own
	// programs' as well.
	running := s.takenOver || s.container.isOpen()
	found, err := l.table.Resolve(ctx, neighbor.Query{
		Known: before.Neighbors, Limit: l.engine.opts.MaxNeighbors, Learned: heard.addresses,
		Running: running, Vacant: contestable(before),
	})
	if err != nil {
		return err
	}
	if found.HandedOver {
		return errTaken
	}
	l.shrunk = gone == keepUnrouted && l.missing(found.Neighbors)
	if l.shrunk {
		return nil
	}
	read := time.Now()
	written, err := l.table.Write(ctx, found)
	wrote := time.Since(read)
	if l.wrote(before, found.Neighbors, written) {
		l.waited = lockWait(read.Sub(began), wrote, len(written.New))
	}
	s.update(func(r *record.Record) {
		r.Probes, r.Doubts, written.Skipped = heard.settle(before, written.Neighbors, written.Skipped, found.Unknown)
		r.Capture(written)
		if running {
			keepVacant(r, before)
		} else {
			vacate(r)
		}
		r.LeadTo(found.Ends)
		r.Error = heard.failure
		r.Timing.PinnedAt = l.ackedAt.UTC()
	})
	l.engine.tellHeard(s, before)
	l.engine.guard.Base(s.ward, guard.Basis{Links: found.Basis, Gateways: found.Sought})
	return err
}

// wrote notes what is held now, and tells whether a pin is new. The events of what was written wait to be read by
// this goroutine, and a pin counts as held when its own has been.
//
// One that stood and is found gone before the event that tells of it was read
// goes on as if it stood: where that event stands among the others says whether
// the pin was lost before the runtime came, or is what the runtime took.
func (l *life) wrote(before record.Record, found []neighbor.Neighbor, written neighbor.Written) (anew bool) {
	now := time.Now()
	was, stood, overran := l.held, l.stood, l.overran
	l.overran = false
	l.held, l.stood = make(map[neighbor.Gateway]bool, len(found)), make(map[neighbor.Gateway]bool, len(found))
	if l.again == nil {
		l.again = make(map[neighbor.Gateway]time.Time)
	}
	for _, n := range found {
		l.held[n.Gateway()] = false
	}
	for _, n := range written.Neighbors {
		key := n.Gateway()
		l.held[key] = was[key] || !stood[key] || overran // else its own event is still to be read
		l.stood[key] = true
	}
	anew = l.ackedAt.IsZero()
	for _, n := range written.New {
		if stood[n.Gateway()] && !overran && slices.ContainsFunc(before.Neighbors, n.Same) {
			l.again[n.Gateway()] = now
			continue
		}
		l.held[n.Gateway()], anew = false, true
	}
	if len(written.New) > 0 {
		l.writes++
	}
	if anew {
		l.ackedAt = now
	}
	return anew
}

// missing tells whether a pinned gateway is absent from a new resolution.
func (l *life) missing(found []neighbor.Neighbor) bool {
	present := make(map[neighbor.Gateway]bool, len(found))
	for _, n := range found {
		present[n.Gateway()] = true
	}
	for _, n := range l.sandbox.record().Neighbors {
		if !present[n.Gateway()] {
			return true
		}
	}
	return false
}

// firstPinned records and reports the first pin of this process.
//
// A runtime that had asked before the namespace was looked at, and had not taken
// it then, starts the sandbox when it is answered (containerd 1.7's CRI server):
// what the kernel has acknowledged before the answer is in time, by whatever
// margin.
func (l *life) firstPinned() {
	if l.announced {
		return
	}
	l.announced = true
	s := l.sandbox
	if l.asked && !s.takenOver && !s.answered.isOpen() {
		l.ahead = l.ackedAt
		s.ahead.open()
	}
	s.update(func(r *record.Record) {
		if r.Timing.Verdict == record.Pending && !s.barrier.isOpen() {
			r.Timing.ResultToPinMs = milliseconds(l.ackedAt.Sub(l.lastWithout))
		}
		r.NoteEvent(record.Event{Kind: record.KindPinned})
	})
	s.pinned.open()
	l.engine.save(s)
	cause := record.CauseStart
	if s.takenOver && l.writes > 0 {
		cause = record.CauseTakeover
	}
	l.engine.report(record.Event{Kind: record.KindPinned, Cause: cause, Record: s.record()})
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
