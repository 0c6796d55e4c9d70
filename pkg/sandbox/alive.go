// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/neighpin/neighpin/pkg/internal/guard"
)

const (
	// beatInterval is the time between two beats, and beatOverdue how long one may
	// be missing. The locks are held for microseconds; a node without a free
	// processor makes seconds of that, and must not have the engine ended for it.
	beatInterval = time.Second
	beatOverdue  = 15 * time.Second
	// workOverdue is how long all workers may be at their present comparisons,
	// each of which has compareTimeout.
	workOverdue = time.Minute
)

// pulse shows that the engine moves. Its goroutine takes the locks that all work
// needs, and nothing else: who asks never waits for them.
type pulse struct {
	born time.Time
	last atomic.Int64 // when both locks were had, since born
	busy atomic.Int64 // how long all workers had been busy then

	interval, beatOverdue, workOverdue time.Duration
}

func newPulse() *pulse {
	return &pulse{born: time.Now(), interval: beatInterval, beatOverdue: beatOverdue, workOverdue: workOverdue}
}

// Alive tells whether the engine moves: nil, or what does not. It answers at once,
// and knows nothing of connections: an engine that nobody talks to is alive.
// Between New and Start there is nothing that could be stuck.
func (e *Engine) Alive() error {
	p := e.pulse
	last := time.Duration(p.last.Load())
	if silent := time.Since(p.born) - last; last > 0 && silent > p.beatOverdue {
		return fmt.Errorf("the engine is stuck: its locks could not be had for %s", silent.Round(time.Second))
	}
	if busy := time.Duration(p.busy.Load()); busy > p.workOverdue {
		return fmt.Errorf("the engine is stuck: its %d workers have not ended a comparison for %s", guard.Workers, busy.Round(time.Second))
	}
	return nil
}

// beat takes the pulse until the engine ends.
func (e *Engine) beat() {
	p := e.pulse
	ticker := time.NewTicker(p.interval)
	defer ticker.Stop()
	for {
		e.mu.Lock()
		e.mu.Unlock() //nolint:staticcheck // that it can be had is all
		p.busy.Store(int64(e.guard.Busy()))
		p.last.Store(int64(time.Since(p.born)))
		select {
		case <-ticker.C:
		case <-e.ctx.Done():
			return
		}
	}
}
