// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"time"

	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// awaitNetwork returns when CNI has finished: the store's record has its result,
// or NRI says so.
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
	// Nobody announces the result (containerd's store publishes no event), but
	// CNI cannot finish without changing the namespace: while something happens
	// there the store is asked every millisecond, else less often.
	var lastEvent, lastRemoved time.Time
	began := time.Now()
	defer func() { l.early = lastRemoved.After(l.lastWithout) }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-l.sandbox.barrier.opened():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case b, ok := <-l.batches:
			if !ok {
				return errEventsEnded
			}
			for _, ev := range b.events {
				if ev.Kind == neighbor.AddrRemoved && ev.Global {
					lastRemoved = b.at
				}
			}
			if time.Since(began) < time.Minute && b.at.Sub(lastEvent) > time.Millisecond {
				timer.Reset(time.Millisecond)
			}
			lastEvent = b.at
			continue
		case <-timer.C:
		}
		asked := time.Now()
		// A record that is not there (any more) ends nothing: a creation that
		// failed takes its namespace along, and containerd 1.7 keeps no
		// records, so that NRI tells.
		rec, err := l.ask(ctx)
		if err == nil && rec.NetworkReady {
			return nil
		}
		if err == nil {
			l.lastWithout = asked
		}
		// On a busy node an answer takes long because containerd has no time:
		// asking at once again would take more of it from CNI.
		timer.Reset(max(askAgain(time.Since(lastEvent), time.Since(began), err), time.Since(asked)))
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

func (l *life) ask(ctx context.Context) (containerd.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return l.engine.opts.Store.Get(ctx, l.sandbox.id.ID)
}
