// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// guard watches over all sandboxes at once, by one socket in this process's own
// namespace. What happens there says only whom to look at: then one sandbox is
// opened, compared with what is true now, corrected and closed, and nothing of
// ours stays in its namespace.
//
// One goroutine at a time works on a sandbox: first the one of its life, which is
// nudged; from its end on one of the guard's workers.
type guard struct {
	engine *Engine
	ready  *sync.Cond  // of mu: there is work, or the end
	begins func(*ward) // called before each comparison; for tests

	messages atomic.Uint64 // of the kernel about the host and its namespaces, that were read

	mu        sync.Mutex // guards the following
	closed    bool
	wards     map[*sandbox]*ward
	byNSID    map[int32]*ward
	byLink    map[int]wards
	byGateway map[netip.Addr]wards
	strangers map[int32]*pace // namespaces of nobody in care, by number
	urgent    []*ward         // to be compared, in order
	patient   []*ward         // when nothing is urgent
	calmly    int             // how many of those may be compared at once
	calm      int             // how many are, and are not held up
	holding   *time.Timer     // when comparisons begin at the latest, after the start; or nil
	swept     time.Time
	busy      int                  // workers that compare
	moved     time.Time            // when one began or ended that last
	looks     [takeover + 1]uint64 // comparisons, by what led to them
	watcher   hostWatcher          // that hears the host; nil while there is none
	minded    map[netip.Addr]bool  // whose entries matter to a sandbox in care, or did; more than neighbor.MaxEntries stand for all
	readings  hostReadings         // what comparisons share
	sweeping  *time.Timer          // when everything is to be compared again, or nil
	untidy    int                  // comparisons since memory was given back
	tidying   *time.Timer          // when that is done again, or nil

	askable *sync.Cond // of mu: there is somebody to ask for, or the end
	unasked []*ward    // to be asked for, in order
	asksNew []*ward    // before those: for the first time
}

func newGuard(e *Engine) *guard {
	g := &guard{
		engine: e, wards: make(map[*sandbox]*ward), byNSID: make(map[int32]*ward),
		byLink: make(map[int]wards), byGateway: make(map[netip.Addr]wards),
		strangers: make(map[int32]*pace), minded: make(map[netip.Addr]bool), calmly: calmLooks(),
	}
	g.ready, g.askable = sync.NewCond(&g.mu), sync.NewCond(&g.mu)
	return g
}

// start begins to listen and to compare. Its goroutines end with the engine's
// context, and after end.
func (g *guard) start() {
	g.hold()
	for range workers {
		g.engine.wg.Go(g.work)
	}
	g.engine.wg.Go(g.listen)
	if g.engine.opts.Learn {
		for range askers {
			g.engine.wg.Go(g.ask)
		}
	}
	interval := g.engine.opts.CompareInterval
	if interval <= 0 {
		interval = DefaultCompareInterval
	}
	g.engine.wg.Go(func() { g.rounds(interval) })
}

// ward is one sandbox in the guard's care. The guard's mutex guards it.
type ward struct {
	sandbox *sandbox
	basis   basis
	nudge   chan struct{} // to the goroutine of its life; nil when that is over

	dirty    bool    // something happened since it was last begun to be compared
	busy     bool    // a worker has it
	look     *look   // what that does
	waits    urgency // the list it stands in
	later    *time.Timer
	cause    urgency   // of dirty: the more urgent, if several
	waiters  []*waiter // for the next comparison
	served   []*waiter // for the one that a worker has begun
	pace     pace
	failures int
	asking   asking
}

// urgency says why a sandbox is to be compared.
type urgency int

const (
	idle     urgency = iota
	slow             // everything is compared from time to time
	resync           // events were lost, or one concerns many
	event            // something happened to it
	takeover         // what became of it while nobody looked is to be found
)

// cause is the urgency's name outside.
func (u urgency) cause() record.Cause {
	switch u {
	case slow:
		return record.CauseComparison
	case resync:
		return record.CauseLostEvents
	case takeover:
		return record.CauseTakeover
	}
	return record.CauseEvent
}

// watch takes a sandbox whose life begins; its goroutine is nudged over the
// channel when something outside the namespace concerns it.
func (g *guard) watch(s *sandbox) (nudge <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.ward(s)
	w.nudge = make(chan struct{}, 1)
	return w.nudge
}

// take takes over a sandbox whose life is over, or never was in this process, and
// compares it once.
func (g *guard) take(s *sandbox) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.ward(s)
	w.nudge = nil
	g.mind(s)
	if s.loaded {
		g.mark(w, takeover)
	} else {
		g.mark(w, event)
	}
	g.scheduleAsk(w)
}

// check compares sandboxes now; the channel is closed when all have been.
func (g *guard) check(sandboxes []*sandbox) <-chan struct{} { return g.checkAfter(event, sandboxes) }

// checkAfter is check for a cause of its own.
func (g *guard) checkAfter(cause urgency, sandboxes []*sandbox) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := &waiter{left: 1, done: make(chan struct{})}
	defer all.one()
	if g.closed {
		return all.done
	}
	for _, s := range sandboxes {
		if s.dismissed {
			continue
		}
		w := g.ward(s)
		all.left++
		w.waiters = append(w.waiters, all)
		w.pace = pace{} // who asks is the runtime, not the sandbox
		g.mark(w, cause)
	}
	return all.done
}

// vanished notes that the files of sandboxes are not there at the moment.
func (g *guard) vanished(sandboxes []*sandbox) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range sandboxes {
		if w, ok := g.wards[s]; ok {
			w.basis.unseen = true
		}
	}
}

// reappeared compares sandboxes whose files are there, if they were not: at the start
// the files of all of them are told, and all are compared anyway.
func (g *guard) reappeared(sandboxes []*sandbox) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range sandboxes {
		if w, ok := g.wards[s]; ok && (w.basis.unseen || w.busy) {
			g.mark(w, takeover)
		}
	}
}

// waiter waits for several wards to be compared. The guard's mutex guards it.
type waiter struct {
	left int
	done chan struct{}
}

// one says that one of them has been.
func (w *waiter) one() {
	if w.left--; w.left == 0 {
		close(w.done)
	}
}

// ward finds a sandbox, or takes it into care.
func (g *guard) ward(s *sandbox) *ward {
	w, ok := g.wards[s]
	if !ok {
		w = &ward{sandbox: s}
		if !g.closed && !s.dismissed {
			g.wards[s] = w
		}
	}
	return w
}

// base says what the last look at a sandbox rests on. What happened to something
// that was not known of before, between the look and this call, was not heard: then
// another look is due.
func (g *guard) base(s *sandbox, b basis) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w, ok := g.wards[s]
	if !ok {
		return
	}
	if g.rebase(w, b) {
		g.mark(w, event)
	}
	g.scheduleAsk(w)
}

// drop lets go of a sandbox for good: nothing of it is repaired any more, whoever
// is about to hand it over.
func (g *guard) drop(s *sandbox) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.dismissed = true
	if w, ok := g.wards[s]; ok {
		delete(g.wards, s)
		g.unindex(w)
		g.retire(w)
	}
}

// retire ends what still waits for a ward. A worker that has it finishes.
func (g *guard) retire(w *ward) {
	w.waits, w.dirty = idle, false
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

// heard takes what happened in this process's namespace and in all that have a
// number in it, and reports whether any of it led to something.
func (g *guard) heard(events []neighbor.HostEvent) (concerns bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, ev := range events {
		g.readings.outdate(ev)
		switch ev.Kind {
		case neighbor.Overrun:
			concerns = true
			g.sweep()
			continue
		case neighbor.NamespaceGone:
			delete(g.strangers, ev.NSID)
			if w := g.byNSID[ev.NSID]; w != nil {
				g.renumber(w)
			}
			continue
		}
		if w := g.byNSID[ev.NSID]; w != nil {
			concerns = g.happened(w, ev.Event) || concerns
			continue
		}
		concerned := g.byGateway[ev.Dst]
		switch ev.Kind {
		case neighbor.LinkChanged, neighbor.LinkRemoved:
			concerned = g.byLink[ev.Index]
		case neighbor.AddrAdded, neighbor.AddrRemoved:
		default:
			continue
		}
		if concerned.len() == 0 || !g.trusts(ev.NSID) {
			continue
		}
		concerns = true
		cause := event
		if concerned.len() > workers {
			cause = resync // so that what happens to a single one need not wait for all of them
		}
		for w := range concerned.all() {
			g.mark(w, cause)
		}
	}
	return concerns
}

// trusts tells whether an event from a namespace may have sandboxes compared that
// are not in it. Other ends can be in namespaces that are neither the host's nor a
// sandbox's, and their numbers are all that can be matched; but somebody who gives
// a link of his own the right number must not use up the time of others.
func (g *guard) trusts(nsid int32) bool {
	if nsid == neighbor.HostNSID {
		return true
	}
	p := g.strangers[nsid]
	if p == nil {
		p = &pace{}
		g.strangers[nsid] = p
	}
	now := time.Now()
	if p.wait(now) > 0 {
		return false
	}
	p.spend(now, strangerCost)
	return true
}
