// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
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
	s := l.sandbox
	shrink := time.NewTimer(time.Hour)
	defer shrink.Stop()
	started := s.started.opened()
	for {
		select {
		case <-ctx.Done():
			return l.expire(ctx)
		case b, ok := <-l.batches:
			if !ok {
				return errors.New("events of the namespace ended before the sandbox had started")
			}
			dirty, taken := l.observe(b.events)
			if taken {
				l.decide(b.at)
				return nil
			}
			if !dirty {
				continue
			}
			if err := l.reapply(ctx, false); l.final(err) {
				return l.settle(b.at, err)
			}
			if l.shrunk {
				shrink.Reset(shrinkDelay)
			}
		case <-shrink.C:
			if !l.shrunk {
				continue
			}
			if err := l.reapply(ctx, true); l.final(err) {
				return l.settle(time.Now(), err)
			}
		case <-started:
			started = nil
			if s.id.stack() == stackGuest {
				l.conclude(Unproven, 0)
				return nil
			}
		case <-s.container.opened():
			return l.verify(ctx, time.Now())
		}
	}
}

// observe takes events in the kernel's order. It reports whether something
// changed that pins depend on, and whether the runtime took an address.
func (l *life) observe(events []neighbor.Event) (dirty, taken bool) {
	for _, ev := range events {
		key := pinKey{ev.Dst.String(), ev.Dev}
		switch ev.Kind {
		case neighbor.NeighborChanged:
			if _, ours := l.held[key]; ours {
				l.held[key] = l.right(ev)
				dirty = dirty || !l.held[key]
			}
		case neighbor.NeighborRemoved:
			if _, ours := l.held[key]; ours {
				l.held[key] = false
				dirty = true
			}
		case neighbor.AddrRemoved:
			if ev.Global && l.sandbox.id.stack() != stackKernel {
				return dirty, true
			}
			dirty = true
		case neighbor.Overrun:
			l.overran, dirty = true, true
		case neighbor.LinkChanged, neighbor.LinkRemoved, neighbor.AddrAdded, neighbor.RouteChanged:
			dirty = true
		}
	}
	return dirty, false
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
func (l *life) reapply(ctx context.Context, shrink bool) error {
	before := l.ackedAt
	if err := l.apply(ctx, shrink); err != nil {
		return err
	}
	if l.ackedAt != before {
		l.sandbox.update(func(r *Record) { r.Repins++ })
		l.engine.save(l.sandbox)
		l.engine.report(Event{Kind: KindRepinned, Record: l.sandbox.record()})
	}
	return nil
}

// final tells whether a repair's error ends the repairs. One that does not is
// reported, and the next event tries again.
func (l *life) final(err error) bool {
	if err == nil || errors.Is(err, errTaken) || errors.Is(err, errRestless) {
		return err != nil
	}
	l.engine.fail(l.sandbox, err)
	return false
}

// settle handles what stopped a repair. A namespace found taken without its
// RTM_DELADDR read yet was taken with the pins in it, if they were held.
func (l *life) settle(at time.Time, err error) error {
	switch {
	case !errors.Is(err, errTaken):
		l.conclude(Unproven, 0)
		return err
	case l.sandbox.id.stack() == stackKernel:
		l.conclude(Unproven, 0) // the pod's own doing, or its end
	default:
		l.decide(at)
	}
	return nil
}

// decide gives the verdict at the moment the runtime took the namespace.
func (l *life) decide(at time.Time) {
	// Messages were lost, a flush may be among them; or the pod ran before we
	// came, and the address may be one that it removed itself.
	if l.overran || l.sandbox.adopted && l.sandbox.id.stack() != stackTaken {
		l.conclude(Unproven, 0)
		return
	}
	for _, held := range l.held {
		if !held {
			l.conclude(Late, at.Sub(l.ackedAt))
			return
		}
	}
	l.conclude(InTime, at.Sub(l.ackedAt))
}

// verify gives the verdict for a pod that uses the kernel's stack when its
// first container comes: the kernel is asked, not the memory of events.
func (l *life) verify(ctx context.Context, at time.Time) error {
	differences, err := l.table.Verify(ctx, l.sandbox.record().Neighbors)
	if err != nil {
		return l.settle(at, err)
	}
	if len(differences) > 0 {
		l.conclude(Late, 0)
		return l.reapply(ctx, true)
	}
	if l.sandbox.adopted {
		// Its containers may have been there before us.
		l.conclude(Unproven, 0)
		return nil
	}
	l.conclude(InTime, at.Sub(l.ackedAt))
	return nil
}

// expire ends a life whose context has: the sandbox is gone, the daemon stops,
// or the sandbox took too long to start.
func (l *life) expire(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		l.conclude(Unproven, 0)
	}
	return ctx.Err()
}

// missed gives the verdict for a namespace that was taken before it was looked
// at. Pins that an earlier process made in time are in its record.
func (l *life) missed(err error) error {
	s := l.sandbox
	s.pinned.open()
	if rec := s.record(); rec.Timing.Verdict != Pending || len(rec.Neighbors) > 0 {
		if renderErr := s.render(); renderErr != nil {
			return renderErr
		}
		s.update(func(r *Record) { r.Phase = Started })
		l.engine.save(s)
		l.engine.report(Event{Kind: KindAdopted, Record: s.record()})
		return nil
	}
	l.conclude(Late, 0)
	return err
}

// conclude records and reports the verdict; the sandbox has started.
func (l *life) conclude(verdict Verdict, margin time.Duration) {
	s := l.sandbox
	s.update(func(r *Record) {
		r.Phase = Started
		if strength[r.Timing.Verdict] > strength[Pending] {
			return // decided by an earlier process
		}
		if verdict != Late && len(r.Neighbors) == 0 {
			verdict, margin = Nothing, 0
		}
		r.Timing.Verdict, r.Timing.MarginMs = verdict, milliseconds(margin)
	})
	l.engine.save(s)
	l.engine.report(Event{Kind: KindTiming, Record: s.record()})
}
