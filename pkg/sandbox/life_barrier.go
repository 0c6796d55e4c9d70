// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"time"

	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// awaitNetwork returns when CNI has finished: libcni has kept its result, the
// store's record has it, or NRI says so.
func (l *life) awaitNetwork(ctx context.Context) error {
	l.lastWithout = time.Now()
	if l.engine.opts.Store == nil {
		select {
		case <-l.sandbox.barrier.opened():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.engine.waiting.Add(1)
	defer l.engine.waiting.Add(-1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	made := l.engine.madeNetwork(ctx, l.sandbox.id.ID)
	w := l.newNetworkWait()
	defer w.end()
	for {
		select {
		case <-l.sandbox.barrier.opened():
			return nil
		case since := <-made:
			w.kept(since)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case b, ok := <-l.batches:
			if !ok {
				return errEventsEnded
			}
			w.happened(b)
		case <-w.next.timer.C:
			w.ask(ctx)
		case a := <-w.answers:
			if w.answered(a) {
				return nil
			}
		}
	}
}

// networkWait is the state of the waiting for CNI where there is a store to ask. Nobody
// announces the record's result (containerd's store publishes no event), but CNI cannot
// finish without changing the namespace: while something happens there the store is
// asked every millisecond, else less often.
type networkWait struct {
	life        *life
	began       time.Time
	lastEvent   time.Time   // when something happened in the namespace
	lastRemoved time.Time   // when an address went
	next        *alarm      // for the next question
	asked       time.Time   // when the last one was asked
	answers     chan answer // one question at a time
}

func (l *life) newNetworkWait() *networkWait {
	return &networkWait{life: l, began: time.Now(), next: newAlarm(0), answers: make(chan answer, 1)}
}

func (w *networkWait) end() {
	w.next.stop()
	w.life.early = w.lastRemoved.After(w.life.lastWithout)
}

// kept takes that libcni has kept its result, no sooner than at a time.
func (w *networkWait) kept(since time.Time) {
	// Before that the runtime cannot have taken anything.
	if since.After(w.life.lastWithout) {
		w.life.lastWithout = since
	}
	w.life.engine.results.leads.Store(true)
}

// happened takes what happened in the namespace, and has the store asked soon.
func (w *networkWait) happened(b batch) {
	for _, ev := range b.events {
		if ev.Kind == neighbor.AddrRemoved && ev.Global {
			w.lastRemoved = b.at
		}
	}
	if time.Since(w.began) < time.Minute && b.at.Sub(w.lastEvent) > time.Millisecond {
		w.next.advance(w.life.share(time.Millisecond))
	}
	w.lastEvent = b.at
}

// ask begins a question for the sandbox's record.
func (w *networkWait) ask(ctx context.Context) {
	w.next.set = time.Time{}
	w.asked = time.Now()
	w.life.engine.wg.Go(func() { w.answers <- w.get(ctx) })
}

func (w *networkWait) get(ctx context.Context) answer {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	record, err := w.life.engine.opts.Store.Get(ctx, w.life.sandbox.id.ID)
	return answer{record, err}
}

// answered takes the answer, and tells whether CNI has finished.
func (w *networkWait) answered(a answer) bool {
	l := w.life
	// A record that is not there (any more) ends nothing: a creation that failed takes
	// its namespace along, and containerd 1.7 keeps no records, so that NRI tells.
	if a.err == nil && a.record.NetworkReady {
		l.engine.results.leads.Store(false)
		return true
	}
	if a.err == nil {
		l.lastWithout = w.asked
	}
	// On a busy node an answer takes long because containerd has no time: asking at
	// once again would take more of it from CNI.
	pause := l.share(askAgain(time.Since(w.lastEvent), time.Since(w.began), a.err))
	w.next.at(max(pause, min(time.Since(w.asked), maxPause)))
	return false
}

const (
	// recordTimeout bounds one question for a starting sandbox's record. Where
	// everything starts at once an answer can take seconds, and a late answer is
	// worth more than a second question.
	recordTimeout = 10 * time.Second
	// maxPause bounds what a busy node adds to the time between an answer and the
	// next question. Where nothing else runs gVisor takes more than twice that from
	// CNI's result to its look at the namespace, and what slows neighpin slows it, too.
	maxPause = 25 * time.Millisecond
	// maxRelaxed is the same where the result's file is sure to tell, and the record
	// is asked for in case that it does not.
	maxRelaxed = 250 * time.Millisecond
)

// answer is what came of one question.
type answer struct {
	record containerd.Record
	err    error
}

// share makes a pause longer the more sandboxes wait for CNI at once, so that all
// of them together ask the store no more often than one, but never so long that
// the runtime could be there first. A question takes some tenth of a millisecond
// from neighpin and from containerd each; where the share of the processor is
// small, many a second would cost the very time that they are to save.
func (l *life) share(pause time.Duration) time.Duration {
	n := time.Duration(l.engine.waiting.Load())
	if l.engine.results.leads.Load() {
		return max(pause, min(maxRelaxed, max(maxPause, maxPause/5*n)))
	}
	return max(pause, min(pause*n, maxPause))
}

// alarm is a timer that knows when it will ring.
type alarm struct {
	timer *time.Timer
	set   time.Time // zero: it does not ring
}

func newAlarm(in time.Duration) *alarm {
	return &alarm{timer: time.NewTimer(in), set: time.Now().Add(in)}
}

func (a *alarm) stop() { a.timer.Stop() }

// at has it ring in a while.
func (a *alarm) at(in time.Duration) {
	a.set = time.Now().Add(in)
	a.timer.Reset(in)
}

// advance has it ring earlier than it would; one that does not ring stays so.
func (a *alarm) advance(in time.Duration) {
	if !a.set.IsZero() && time.Until(a.set) > in {
		a.at(in)
	}
}

// askAgain says when to ask next: soon after something happened, and less and
// less often of a CNI that takes long. Even the longest pause that a CNI of
// normal duration meets is a fraction of the time that the runtime needs next.
func askAgain(quiet, waited time.Duration, err error) time.Duration {
	switch {
	case err != nil, waited > time.Minute:
		return 100 * time.Millisecond
	case quiet < 100*time.Millisecond:
		return time.Millisecond
	case waited < 5*time.Second:
		return 5 * time.Millisecond
	}
	return 20 * time.Millisecond
}
