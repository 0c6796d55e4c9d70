// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Workers compare at once. One that a sandbox holds up, which it can for no
	// longer than a comparison may take, leaves others.
	Workers = 3
	// elsewhere is added to the processor's time of a comparison for what other threads
	// do for it. An ordinary one comes to half a millisecond, so that about a hundred
	// changes are followed at once, and twenty in a second for ever.
	elsewhere = 200 * time.Microsecond
	// strangerCost is what an event of a namespace that is not in care is charged
	// with: some ten of them at once, and two in a second, may cost others a look.
	strangerCost = 5 * time.Millisecond
	// firstRetry is the pause after a comparison that failed; it doubles.
	firstRetry = 100 * time.Millisecond
	// tidyMany is how many comparisons leave so much memory behind that it is given back,
	// and tidyAfter how long after the last of them.
	tidyMany  = 500
	tidyAfter = 500 * time.Millisecond
	// sweepPause is the least time between two comparisons of everything after
	// lost events, and sweepEach what each sandbox adds to that.
	sweepPause = 100 * time.Millisecond
	sweepEach  = 10 * time.Millisecond
)

// mark has a ward compared, soon.
func (g *Guard) mark(w *Ward, cause Cause) {
	w.dirty, w.cause = true, max(w.cause, cause)
	if w.nudge != nil {
		select {
		case w.nudge <- struct{}{}:
		default: // it has not even taken the last one
		}
		return
	}
	if !w.busy {
		g.enqueue(w)
	}
}

// enqueue puts a ward into the line, at once or when its time has come.
func (g *Guard) enqueue(w *Ward) {
	if g.closed || !g.wards[w] || w.waits >= w.cause {
		return
	}
	if pause := w.pace.Wait(time.Now()); pause > 0 {
		g.postpone(w, pause)
		return
	}
	w.waits = w.cause
	if w.cause >= Event {
		g.urgent = append(g.urgent, w)
	} else {
		g.patient = append(g.patient, w)
	}
	g.ready.Signal()
}

// postpone puts a ward into the line after a pause, unless it waits for that already.
func (g *Guard) postpone(w *Ward, pause time.Duration) {
	if w.later != nil {
		return
	}
	w.later = time.AfterFunc(pause, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		w.later = nil
		if w.dirty && !w.busy && w.nudge == nil {
			g.enqueue(w)
		}
	})
}

// next waits for a ward that is to be compared and takes it out of the line; nil
// at the end.
func (g *Guard) next() (*Ward, Cause) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		var w *Ward
		switch {
		case g.closed:
			return nil, none
		case g.holding != nil:
			g.ready.Wait()
			continue
		case len(g.urgent) > 0:
			w, g.urgent = g.urgent[0], g.urgent[1:]
		case len(g.patient) > 0 && g.calm < g.calmly:
			w, g.patient = g.patient[0], g.patient[1:]
		default:
			g.ready.Wait()
			continue
		}
		// One that was made more urgent stands in both lists, and one that was
		// dropped may stand in either.
		if w.waits == none || w.busy || !g.wards[w] {
			continue
		}
		cause := w.cause
		w.busy, w.dirty, w.waits, w.cause = true, false, none, none
		g.begin(w, cause)
		g.busy, g.moved = g.busy+1, time.Now()
		g.looks[cause]++
		return w, cause
	}
}

// work compares one ward after another until the end. Its thread is its own, so
// that the processor's time can be told.
func (g *Guard) work() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var c courtesy
	for {
		w, cause := g.next()
		if w == nil {
			return
		}
		began := threadTime()
		b, err := w.subject.Compare(Look{Basis: g.begun(w), Cause: cause, Readings: g.shared(cause)})
		g.done(w, b, elsewhere+threadTime()-began, err)
		if cause < Event {
			c.yield()
		}
	}
}

// threadTime is the processor's time that the calling thread has had.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0 // not on Linux
	}
	return time.Duration(t.Nano())
}

// begun returns what is known of a ward that is about to be compared. Who waits
// for it from now on waits for the next time.
func (g *Guard) begun(w *Ward) Basis {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.served, w.waiters = append(w.served, w.waiters...), nil
	return w.basis
}

// tidy gives memory back to the system when nothing has been compared for a while, after
// many comparisons: what a takeover or a storm took is not needed again soon, and Go by
// itself would give it back over minutes, at a cost that an idle process shows.
func (g *Guard) tidy() {
	if g.untidy++; g.untidy < tidyMany || g.closed {
		return
	}
	if g.tidying != nil {
		g.tidying.Reset(tidyAfter)
		return
	}
	g.tidying = time.AfterFunc(tidyAfter, func() {
		g.mu.Lock()
		g.untidy, g.tidying = 0, nil
		g.mu.Unlock()
		debug.FreeOSMemory()
	})
}

// done gives a ward back.
func (g *Guard) done(w *Ward, b Basis, cost time.Duration, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.busy = false
	g.busy, g.moved = g.busy-1, time.Now()
	g.tidy()
	during := g.ended(w)
	for _, waiter := range w.served {
		waiter.one()
	}
	w.served = nil
	w.pace.Spend(time.Now(), cost)
	if !g.wards[w] {
		return
	}
	more := g.mind(w)
	switch {
	case err == nil:
		w.failures = 0
		if g.rebase(w, b) || more || slices.ContainsFunc(during, w.subject.ConcernedBy) {
			w.dirty, w.cause = true, max(w.cause, Event)
		}
		g.scheduleAsk(w)
	case w.failures < 8: // then the slow comparison is often enough
		w.failures++
		w.dirty, w.cause = true, max(w.cause, Event)
		g.postpone(w, firstRetry<<w.failures)
		return
	}
	if w.dirty {
		g.enqueue(w)
	}
}

// sweep has everything compared, soon, but not again and again: who can make the
// kernel lose events must not keep the guard busy by it.
func (g *Guard) sweep() {
	if g.closed || g.sweeping != nil {
		return
	}
	pause := sweepPause + time.Duration(len(g.wards))*sweepEach
	g.sweeping = time.AfterFunc(max(0, time.Until(g.swept.Add(pause))), func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.sweeping, g.swept = nil, time.Now()
		g.all(Resync)
	})
}

// all has every ward compared.
func (g *Guard) all(cause Cause) {
	for w := range g.wards {
		g.mark(w, cause)
	}
}

// jittered is an interval give or take a tenth, so that neither a node's sandboxes
// nor the nodes of a cluster act all at once.
func jittered(interval time.Duration) time.Duration {
	return interval - interval/10 + rand.N(interval/5+1) //nolint:gosec // no secret
}
