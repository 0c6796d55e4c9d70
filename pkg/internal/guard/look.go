// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

const (
	// heldUp is the time after which a look that is not urgent does not count among
	// those that go on at once: the kernel's lock, or the sandbox, holds it up.
	heldUp = 20 * time.Millisecond
	// maxDuring bounds the events that are kept while a sandbox is looked at.
	maxDuring = 8
)

// look is what a worker does with a ward. The guard's mutex guards it.
type look struct {
	calm   *time.Timer      // while it counts among those that are not urgent
	during []neighbor.Event // that happened in the sandbox meanwhile
}

// calmLooks is how many workers may look at once at what is not urgent: one fewer than
// there are processors, so that the runtime's calls find one that is free while a
// thousand sandboxes are looked at. A thread that has one of Go's processors gives it
// back only after some ten milliseconds, since its system calls take microseconds each.
func calmLooks() int { return max(1, min(Workers, runtime.GOMAXPROCS(0)-1)) }

// hold keeps all comparisons waiting until the runtime has told of its sandboxes, where
// very many were taken over from records: no pod of the node starts until it is answered,
// and the comparisons would have the processor that reading its message takes. It is for
// the start, before there are workers.
func (g *Guard) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.urgent) > g.opts.HoldMany {
		g.holding = time.AfterFunc(g.opts.HoldFor, g.Release)
	}
}

// Release ends that wait: the runtime has told of its sandboxes.
func (g *Guard) Release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.holding == nil {
		return
	}
	g.holding.Stop()
	g.holding = nil
	g.ready.Broadcast()
}

// courtesy lets other threads have the processor between two looks that are not urgent.
// One that handles a call of the runtime's and finds all processors at work would wait
// for the kernel to take one away, which takes some milliseconds (EEVDF's slice). Where
// many threads want it the way back can be long, so that no more than a fifth of the
// time is given away like this.
type courtesy struct{ next time.Time }

func (c *courtesy) yield() {
	began := time.Now()
	if began.Before(c.next) {
		return
	}
	_, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // which never fails
	now := time.Now()
	c.next = now.Add(4 * now.Sub(began))
}

// begin begins a look.
func (g *Guard) begin(w *Ward, cause Cause) {
	w.look = &look{}
	if cause >= Event {
		return
	}
	l := w.look
	g.calm++
	l.calm = time.AfterFunc(heldUp, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.hurry(l)
	})
}

// hurry ends the counting of a look among the calm ones, and lets another one begin.
func (g *Guard) hurry(l *look) {
	if l.calm == nil {
		return
	}
	l.calm.Stop()
	l.calm = nil
	g.calm--
	if len(g.patient) > 0 {
		g.ready.Signal()
	}
}

// ended ends a look, and returns what happened in the sandbox meanwhile.
func (g *Guard) ended(w *Ward) (during []neighbor.Event) {
	l := w.look
	w.look = nil
	g.hurry(l)
	return l.during
}
