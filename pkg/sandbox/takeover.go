// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/record"
)

const (
	// takeOverAtOnce is how many sandboxes that nobody knew are looked at for the first time
	// at once: each holds two sockets meanwhile.
	takeOverAtOnce = 16
	// takeOverMany is from how many sandboxes on Synchronize is answered after takeOverWait:
	// they are not done within any time that the runtime waits for, and until then
	// no pod of the node starts. So many of an earlier process wait for that answer.
	takeOverMany = 500
	takeOverWait = nriWait / 20
)

// TakeOver takes NRI's Synchronize: sandboxes that are already there. Pins that
// are missing are made, and the call waits for that; it takes at most a second, of
// many at most a twentieth of that, and what is not done by then goes on behind it.
func (e *Engine) TakeOver(ctx context.Context, ids []record.Identity) {
	wait := nriWait
	if len(ids) > takeOverMany {
		wait = takeOverWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	settled, living, unknown := e.meet(ids)
	repaired := e.guard.Check(guard.Takeover, wards(settled)...)
	e.guard.Release()
	begun := e.takeOverLater(unknown)
	for _, s := range living {
		s.wait(ctx)
	}
	within(ctx, begun)
	within(ctx, repaired)
}

// meet notes of sandboxes that they are there and have started, and says how far each is.
// Those that are not selected are left out.
func (e *Engine) meet(ids []record.Identity) (settled, living []*sandbox, unknown []record.Identity) {
	for _, id := range ids {
		s, known := e.find(id.ID)
		switch {
		case s == nil && !known:
			unknown = append(unknown, id)
			continue
		case s == nil:
			continue
		}
		s.there()
		if s.settled() {
			settled = append(settled, s)
		} else {
			living = append(living, s)
		}
	}
	return settled, living, unknown
}

// there notes that a sandbox has started, in an order which asked does not mind.
func (s *sandbox) there() {
	s.barrier.open()
	s.started.open()
}

// takeOverLater begins the lives of sandboxes; the channel is closed when all have been
// looked at.
func (e *Engine) takeOverLater(ids []record.Identity) <-chan struct{} {
	done := make(chan struct{})
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || len(ids) == 0 {
		close(done)
		return done
	}
	queue := make(chan record.Identity)
	var all sync.WaitGroup
	for range min(takeOverAtOnce, len(ids)) {
		all.Go(func() {
			for id := range queue {
				e.takeOverOne(id)
			}
		})
	}
	e.wg.Go(func() {
		defer close(done)
		for _, id := range ids {
			if e.ctx.Err() == nil {
				queue <- id
			}
		}
		close(queue)
		all.Wait()
		if len(ids) > takeOverMany {
			debug.FreeOSMemory() // what so many took at once is not needed again soon
		}
	})
	return done
}

// takeOverOne begins the life of one sandbox and waits until it has been looked at, or for
// nriWait.
func (e *Engine) takeOverOne(id record.Identity) {
	ctx, cancel := context.WithTimeout(e.ctx, nriWait)
	defer cancel()
	if s := e.begin(ctx, id, takenOver); s != nil {
		s.there()
		s.wait(ctx)
	}
}

// unseen stands for a moment that nobody saw.
func unseen() time.Time { return time.Time{}.Add(1) }

// ContainerThere takes what NRI's Synchronize lists: that a sandbox has a
// container. Of one that is being kept until its first container comes that one
// has come unseen, while there was no connection to NRI: it has started, and
// whether its pins were in time nothing shows.
func (e *Engine) ContainerThere(id string) {
	s, _ := e.find(id)
	if s == nil {
		return
	}
	s.mu.Lock()
	if s.containerAt.IsZero() {
		s.containerAt = unseen()
	}
	s.mu.Unlock()
	s.container.open()
}
