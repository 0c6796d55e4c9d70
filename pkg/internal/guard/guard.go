// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Options are what a [Guard] works with.
type Options struct {
	// Interval is the time in which everything is compared, whatever events say, above
	// zero; with very many sandboxes it is longer, see roundTime.
	Interval time.Duration
	// AskInterval is how often a sandbox's gateways are asked for; zero is never.
	AskInterval time.Duration
	// HoldFor is how long at most nothing is compared after the start, until Release, where
	// more than HoldMany sandboxes were given to it before.
	HoldFor  time.Duration
	HoldMany int
	// WatchHost begins to hear the host.
	WatchHost func() (HostWatcher, error)
	// Listens is told when the host begins to be heard, nil, and why it is not any more.
	Listens func(error)
	// Round is called before each round through everything.
	Round func()
}

// Guard watches over all sandboxes at once, by one socket in this process's own
// namespace. What happens there says only whom to look at: then one sandbox is
// opened, compared with what is true now, corrected and closed, and nothing of
// ours stays in its namespace.
//
// One goroutine at a time works on a sandbox: first the one of its life, which is
// nudged; from its end on one of the guard's workers. Its methods may be called from
// several goroutines at once.
type Guard struct {
	opts  Options
	ctx   context.Context // that of Start
	wg    sync.WaitGroup  // of the goroutines
	ready *sync.Cond      // of mu: there is work, or the end

	messages atomic.Uint64 // of the kernel about the host and its namespaces, that were read

	mu        sync.Mutex // guards the following
	closed    bool
	wards     map[*Ward]bool
	byNSID    map[int32]*Ward
	byLink    map[int]wards
	byGateway map[netip.Addr]wards
	strangers map[int32]*Pace // namespaces of nobody in care, by number
	urgent    []*Ward         // to be compared, in order
	patient   []*Ward         // when nothing is urgent
	calmly    int             // how many of those may be compared at once
	calm      int             // how many are, and are not held up
	holding   *time.Timer     // when comparisons begin at the latest, after the start; or nil
	swept     time.Time
	busy      int                 // workers that compare
	moved     time.Time           // when one began or ended that last
	looks     [causes]uint64      // comparisons, by what led to them
	watcher   HostWatcher         // that hears the host; nil while there is none
	tried     bool                // hearing it has been tried
	deaf      error               // what came of that last
	minded    map[netip.Addr]bool // whose entries matter to a sandbox in care, or did; more than neighbor.MaxEntries stand for all
	readings  hostReadings        // what comparisons share
	sweeping  *time.Timer         // when everything is to be compared again, or nil
	untidy    int                 // comparisons since memory was given back
	tidying   *time.Timer         // when that is done again, or nil

	askable *sync.Cond // of mu: there is somebody to ask for, or the end
	unasked []*Ward    // to be asked for, in order
	asksNew []*Ward    // before those: for the first time
}

// New prepares a guard. Sandboxes may be given to it before Start.
func New(opts Options) *Guard {
	g := &Guard{
		opts: opts, wards: make(map[*Ward]bool), byNSID: make(map[int32]*Ward),
		byLink: make(map[int]wards), byGateway: make(map[netip.Addr]wards),
		strangers: make(map[int32]*Pace), minded: make(map[netip.Addr]bool), calmly: calmLooks(),
	}
	g.ready, g.askable = sync.NewCond(&g.mu), sync.NewCond(&g.mu)
	return g
}

// Start begins to listen and to compare. That ends with the context and Close, which
// both have to come.
func (g *Guard) Start(ctx context.Context) {
	g.ctx = ctx
	g.hold()
	for range Workers {
		g.wg.Go(g.work)
	}
	g.wg.Go(g.listen)
	if g.opts.AskInterval > 0 {
		for range askers {
			g.wg.Go(g.ask)
		}
	}
	g.wg.Go(g.rounds)
}

// Close lets go of all sandboxes and waits until nothing is done for them any more, which
// is soon after the end of Start's context. Who waits for a comparison waits no longer.
func (g *Guard) Close() {
	g.end()
	g.wg.Wait()
}

// Watch takes a sandbox whose life begins; its goroutine is nudged over the
// channel when something outside the namespace concerns it.
func (g *Guard) Watch(w *Ward) (nudge <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.care(w)
	w.nudge = make(chan struct{}, 1)
	return w.nudge
}

// Take takes over a sandbox whose life is over, or never was in this process, and
// compares it once, for that cause.
func (g *Guard) Take(w *Ward, cause Cause) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.care(w)
	w.nudge = nil
	g.mind(w)
	g.mark(w, cause)
	g.scheduleAsk(w)
}

// Check compares sandboxes now; the channel is closed when all have been.
func (g *Guard) Check(cause Cause, list ...*Ward) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := &waiter{left: 1, done: make(chan struct{})}
	defer all.one()
	if g.closed {
		return all.done
	}
	for _, w := range list {
		if w.dismissed {
			continue
		}
		g.care(w)
		all.left++
		w.waiters = append(w.waiters, all)
		w.pace = Pace{} // who asks is the runtime, not the sandbox
		g.mark(w, cause)
	}
	return all.done
}

// Vanished notes that the files of sandboxes are not there at the moment.
func (g *Guard) Vanished(list ...*Ward) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range list {
		if g.wards[w] {
			w.basis.Unseen = true
		}
	}
}

// Reappeared compares sandboxes whose files are there, if they were not: at the start
// the files of all of them are told, and all are compared anyway.
func (g *Guard) Reappeared(list ...*Ward) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range list {
		if g.wards[w] && (w.basis.Unseen || w.busy) {
			g.mark(w, Takeover)
		}
	}
}

// Base says what the last look at a sandbox rests on, where its life took that. What
// happened to something that was not known of before, between the look and this call,
// was not heard: then another look is due.
func (g *Guard) Base(w *Ward, b Basis) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.wards[w] {
		return
	}
	if g.rebase(w, b) {
		g.mark(w, Event)
	}
	g.scheduleAsk(w)
}

// Drop lets go of a sandbox for good: nothing of it is repaired any more, whoever
// is about to hand it over.
func (g *Guard) Drop(w *Ward) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.dismissed = true
	if g.wards[w] {
		delete(g.wards, w)
		g.unindex(w)
		g.retire(w)
	}
}

// Hears tells whether the host is heard, and why not, where that has been tried.
func (g *Guard) Hears() (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tried && g.deaf == nil, g.deaf
}

// Count returns how many of the kernel's messages were read, and how many comparisons
// were begun, by what led to them.
func (g *Guard) Count() (messages uint64, looks map[Cause]uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	looks = make(map[Cause]uint64)
	for cause := Slow; cause < causes; cause++ {
		looks[cause] = g.looks[cause]
	}
	return g.messages.Load(), looks
}

// Busy is for how long every worker has been at its present comparison; zero when one
// is free.
func (g *Guard) Busy() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy < Workers {
		return 0
	}
	return time.Since(g.moved)
}

// care takes a sandbox into care, unless that is over.
func (g *Guard) care(w *Ward) {
	if !g.closed && !w.dismissed {
		g.wards[w] = true
	}
}

// retire ends what still waits for a ward. A worker that has it finishes.
func (g *Guard) retire(w *Ward) {
	w.waits, w.dirty = none, false
	for _, timer := range []*time.Timer{w.later, w.asking.timer} {
		if timer != nil {
			timer.Stop()
		}
	}
	for _, waiter := range w.waiters {
		waiter.one()
	}
	w.waiters = nil
}

// end lets go of everything, and wakes all that waits.
func (g *Guard) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, timer := range []*time.Timer{g.sweeping, g.tidying, g.holding} {
		if timer != nil {
			timer.Stop()
		}
	}
	for w := range g.wards {
		delete(g.wards, w)
		g.retire(w)
	}
	g.ready.Broadcast()
	g.askable.Broadcast()
}
