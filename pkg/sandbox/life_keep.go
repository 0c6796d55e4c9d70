// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

const (
	// takenDelay is how long the RTM_DELADDR of a namespace that was found
	// taken may take to be read: it is in the socket already.
	takenDelay = time.Second
	// minMargin is the shortest margin that proves something. gVisor reads the
	// neighbors of all links before it removes the first address (gvisor
	// runsc/sandbox/network.go): a pin between the two is too late, although it
	// comes before the RTM_DELADDR. That takes it a millisecond or two.
	minMargin = 5 * time.Millisecond
	// longWait is what our own requests take only where others hold the kernel's lock on
	// links.
	longWait = 4 * minMargin
)

// keep holds the pins until the sandbox has started: it repairs what is lost,
// and it finds the moment that decides whether the pins were in time.
//
// That moment is the runtime's first RTM_DELADDR, which gVisor causes right
// after it has copied addresses, routes and permanent neighbors. The order of
// events in this one socket is the kernel's own: pins whose RTM_NEWNEIGH came
// before the RTM_DELADDR were in time, whenever this process was scheduled. For
// a pod that goes on using the kernel's stack the moment is its first container.
func (l *life) keep(ctx context.Context) error {
	w := newWaits(l.sandbox)
	defer w.stop()
	for {
		over, err := l.await(ctx, w)
		switch {
		case over, errors.Is(err, errRestless):
			return err
		case errors.Is(err, errTaken):
			return l.awaitTaken(ctx)
		case err != nil: // the next event tries again
			l.engine.fail(l.sandbox, err)
		}
	}
}

// waits are what keep waits for beside events.
type waits struct {
	started, container <-chan struct{} // nil when it has been seen

	shrink     *time.Timer // a gateway's route is gone, and should be back by then
	again      *time.Timer // for another look, because of something outside
	unanswered *time.Timer // what is asked for on the wire counts among the first pins until then
}

func newWaits(s *sandbox) *waits {
	return &waits{
		started: s.started.opened(), container: s.container.opened(),
		shrink: time.NewTimer(time.Hour), again: time.NewTimer(time.Hour), unanswered: time.NewTimer(nriWait),
	}
}

func (w *waits) stop() {
	w.shrink.Stop()
	w.again.Stop()
	w.unanswered.Stop()
}

// await waits for one thing and does what it asks for. It is over when the
// sandbox has started, or nothing can be told any more.
func (l *life) await(ctx context.Context, w *waits) (over bool, err error) {
	stack := l.sandbox.id.Stack()
	select {
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			l.conclude(record.Unproven, 0) // pinned, but it takes too long to start
		}
		return true, nil
	case b, ok := <-l.batches:
		if !ok {
			return true, errEventsEnded
		}
		dirty, taken := l.observe(b.events)
		if taken {
			l.decide(b.at)
			return true, nil
		}
		if dirty {
			err = l.look(ctx, w)
		}
	case <-l.nudge:
		w.again.Reset(l.pace.Wait(time.Now()))
	case <-w.again.C:
		began := time.Now()
		l.applies-- // the namespace has not changed, and pace bounds these
		err = l.look(ctx, w)
		if !l.sandbox.Questions().First {
			l.firstPinned()
		}
		l.pace.Spend(time.Now(), min(time.Since(began), time.Millisecond)) // at most: see guard.Pace
	case <-w.unanswered.C:
		l.firstPinned()
	case <-w.shrink.C:
		if l.shrunk {
			err = l.reapply(ctx, dropUnrouted)
		}
	case <-w.started:
		w.started = nil
		if stack == record.StackGuest || l.sandbox.takenOver && stack != record.StackTaken {
			// Nothing will show when the runtime read the namespace, or its
			// containers were there before us.
			l.conclude(record.Unproven, 0)
			return true, nil
		}
	case <-w.container:
		w.container = nil
		if stack == record.StackKernel {
			return true, l.verify(ctx)
		}
		if err = l.reapply(ctx, keepUnrouted); err == nil {
			// It runs and has taken nothing, as gVisor with the host's network;
			// what it read, and when, nothing shows.
			l.conclude(record.Unproven, 0)
			return true, nil
		}
	}
	return false, err
}

// look applies anew. A gateway that is missing then is believed to be gone a while
// later.
func (l *life) look(ctx context.Context, w *waits) error {
	err := l.reapply(ctx, keepUnrouted)
	if l.shrunk {
		w.shrink.Reset(shrinkDelay)
	}
	return err
}

// observe takes events in the kernel's order. It reports whether something
// changed that pins depend on, and whether the runtime took an address.
func (l *life) observe(events []neighbor.Event) (dirty, taken bool) {
	for _, ev := range events {
		key := neighbor.Gateway{Dst: ev.Dst, Dev: ev.Dev}
		switch ev.Kind {
		case neighbor.NeighborChanged:
			if _, ours := l.held[key]; ours {
				if l.held[key] = l.right(ev); !l.held[key] {
					l.lost(key)
					dirty = true
				}
			}
		case neighbor.NeighborRemoved:
			if _, ours := l.held[key]; ours {
				l.held[key] = false
				l.lost(key)
				dirty = true
			}
		case neighbor.AddrRemoved:
			// A link that goes down loses its IPv6 addresses, too; gVisor
			// leaves it up.
			if ev.Global && !l.down[ev.Dev] && l.sandbox.id.Stack() != record.StackKernel {
				return dirty, true
			}
			dirty = true
		case neighbor.Overrun:
			l.overran, dirty = true, true
		case neighbor.LinkChanged:
			l.down[ev.Dev] = !ev.Up
			dirty = true
		case neighbor.LinkRemoved, neighbor.AddrAdded, neighbor.RouteChanged:
			dirty = true
		}
	}
	return dirty, false
}

// lost takes the event of a pin's loss. If that was found and mended before, the
// pin stands since then.
func (l *life) lost(key neighbor.Gateway) {
	if at, ok := l.again[key]; ok && at.After(l.ackedAt) {
		l.ackedAt = at
	}
	delete(l.again, key)
	delete(l.stood, key)
}

// right tells whether a changed neighbor is as it was pinned.
func (l *life) right(ev neighbor.Event) bool {
	for _, n := range l.sandbox.record().Neighbors {
		if n.Dst == ev.Dst && n.Dev == ev.Dev {
			return ev.Permanent() && ev.LLAddr == n.LLAddr
		}
	}
	return false
}

// reapply applies anew and reports when that wrote something.
func (l *life) reapply(ctx context.Context, gone unrouted) error {
	before := l.writes
	was := l.sandbox.record()
	if err := l.apply(ctx, gone); err != nil {
		return err
	}
	if is := l.sandbox.record(); !is.AsksAs(was) {
		l.engine.save(l.sandbox)
	}
	if l.writes != before && l.announced {
		l.sandbox.update(func(r *record.Record) {
			r.Repins++
			r.NoteEvent(record.Event{Kind: record.KindRepinned})
		})
		l.engine.save(l.sandbox)
		l.engine.report(record.Event{Kind: record.KindRepinned, Cause: record.CauseStart, Record: l.sandbox.record()})
	}
	return nil
}

// awaitTaken goes on reading events of a namespace that was found taken: the
// verdict rests on their order, never on what was known before them.
func (l *life) awaitTaken(ctx context.Context) error {
	if l.sandbox.id.Stack() == record.StackKernel {
		l.conclude(record.Unproven, 0) // the pod's own doing, or its end
		return nil
	}
	limit := time.NewTimer(takenDelay)
	defer limit.Stop()
	for {
		select {
		case b, ok := <-l.batches:
			if !ok {
				return errEventsEnded
			}
			if _, taken := l.observe(b.events); taken {
				l.decide(b.at)
				return nil
			}
		case <-limit.C:
			l.conclude(record.Unproven, 0)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// decide gives the verdict at the moment the runtime took the namespace.
func (l *life) decide(at time.Time) {
	margin := at.Sub(l.ackedAt)
	verdict := record.InTime
	for _, held := range l.held {
		if !held {
			verdict = record.Late
		}
	}
	switch {
	case l.overran, l.early, l.sandbox.takenOver && l.sandbox.id.Stack() != record.StackTaken:
		// Messages were lost; or an address went before CNI's result was seen;
		// or the pod ran before we came and may have removed it itself.
		verdict, margin = record.Unproven, 0
	case verdict == record.InTime && margin < l.leastMargin() && l.ackedAt != l.ahead:
		verdict, margin = record.Unproven, 0
	case verdict == record.Late:
		margin = min(margin, 0) // a pin that was there, and lost, has none
	}
	// It takes its other addresses in a moment, and is not to find more of ours.
	l.sandbox.update(func(r *record.Record) { r.Taken = l.sandbox.id.Stack() == record.StackTaken })
	l.conclude(verdict, margin)
}

// leastMargin is the shortest margin that proves something of this sandbox. Between its look at
// the neighbors and its first RTM_DELADDR gVisor waits once for the kernel's lock on links, which is one for
// the whole machine. Where many pods get their links at once that takes up to seconds, for gVisor as for
// our own requests, and a pin between the two would pass for one in time: it was seen once in fifty pods.
func (l *life) leastMargin() time.Duration {
	if l.waited < longWait {
		return minMargin
	}
	return l.waited
}

// lockWait is how long a request waits for the kernel's lock on links, at most, by what a look has taken: to read,
// which waits for it three times or more, and to write a number of entries, each of which waits for it. Both are
// taken for twice their mean; those who wait have it in the order in which they came (kernel/locking/mutex.c).
func lockWait(reading, writing time.Duration, entries int) time.Duration {
	const waits = 3
	return max(2*reading/waits, 2*writing/time.Duration(max(entries, 1)))
}

// verify gives the verdict for a pod that uses the kernel's stack when its
// first container comes: the kernel is asked, not the memory of events.
func (l *life) verify(ctx context.Context) error {
	at := l.sandbox.containerCame()
	if at.Equal(unseen()) {
		l.conclude(record.Unproven, 0) // whatever is not as it should be, the guard finds
		return nil
	}
	for key := range l.again { // their events are not waited for
		l.lost(key)
	}
	differences, err := l.table.Verify(ctx, l.sandbox.record().Neighbors)
	if err != nil {
		return err
	}
	if len(differences) > 0 || at.Before(l.ackedAt) {
		l.conclude(record.Late, min(at.Sub(l.ackedAt), 0))
		return l.reapply(ctx, dropUnrouted)
	}
	if l.sandbox.takenOver {
		l.conclude(record.Unproven, 0) // its containers may have been there before us
		return nil
	}
	l.conclude(record.InTime, at.Sub(l.ackedAt))
	return nil
}

// missed gives the verdict for a namespace that was taken before it was looked
// at. Pins that an earlier process, or another one at this moment, made in time
// are in its record.
func (l *life) missed(err error) error {
	s := l.sandbox
	l.engine.inherit(s)
	rec := s.record()
	switch {
	case l.engine.records.WasBroken(rec.ID):
		l.engine.fail(s, errRecordLost)
		l.conclude(record.Unproven, 0)
		return nil
	case len(rec.Neighbors) == 0:
		l.conclude(record.Late, 0)
		return err
	}
	s.update(func(r *record.Record) { r.Note(record.KindAdopted, "after its runtime had taken it") })
	l.engine.report(record.Event{Kind: record.KindAdopted, Record: rec})
	l.engine.tendLater(s)          // that process may not have come to it
	l.conclude(record.Unproven, 0) // unless the record has a verdict
	return nil
}

// conclude records and reports the verdict; the sandbox has started. The first
// conclusion of a life is its last.
func (l *life) conclude(verdict record.Verdict, margin time.Duration) {
	if l.concluded {
		return
	}
	l.concluded = true
	if !l.ackedAt.IsZero() {
		l.firstPinned()
	}
	s := l.sandbox
	s.update(func(r *record.Record) {
		r.Phase = record.Started
		defer func() { r.Note(record.KindTiming, "%s", r.Timing) }()
		if verdict != record.Late && len(r.Neighbors) == 0 && r.Error == "" && !r.CapturedAt.IsZero() {
			verdict, margin = record.Nothing, 0
		}
		if !verdict.StrongerThan(r.Timing.Verdict) {
			return // decided by an earlier process, or by another at this moment
		}
		r.Timing.Verdict, r.Timing.MarginMs = verdict, milliseconds(margin)
	})
	l.engine.save(s)
	l.engine.report(record.Event{Kind: record.KindTiming, Record: s.record()})
}
