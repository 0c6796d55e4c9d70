// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"maps"
	"slices"
	"time"
)

const (
	// roundMany is how many sandboxes are compared within an interval at least. With
	// more of them a round takes longer in proportion, so that what events have said
	// already does not come to cost more of the processor than a thousandth, at less
	// than a millisecond each in five minutes.
	roundMany = 250
	// roundStep is the least time between two steps of a round. One look alone, of a
	// process that sleeps otherwise, takes several times what one of many in a row does.
	roundStep = 10 * time.Second
)

// rounds has everything compared at intervals, whatever events have said: in portions,
// evenly over the interval.
func (g *guard) rounds(interval time.Duration) {
	for g.engine.ctx.Err() == nil {
		g.mu.Lock()
		wards := slices.Collect(maps.Values(g.wards))
		g.mu.Unlock()
		g.engine.bury()
		g.round(interval, wards)
	}
}

// round goes through some wards once.
func (g *guard) round(interval time.Duration, wards []*ward) {
	steps := max(1, min(len(wards), int(roundTime(interval, len(wards), true)/roundStep)))
	for step := range steps {
		select {
		case <-g.engine.ctx.Done():
			return
		case <-time.After(jittered(roundTime(interval, len(wards), g.engine.hears())) / time.Duration(steps)):
		}
		g.mu.Lock()
		for _, w := range wards[step*len(wards)/steps : (step+1)*len(wards)/steps] {
			if g.wards[w.sandbox] == w && w.nudge == nil { // a life looks by itself
				g.mark(w, slow)
			}
		}
		g.mu.Unlock()
	}
}

// roundTime is how long a round through that many sandboxes takes. When the host is not
// heard it is the only way to find a change, and has its whole share.
func roundTime(interval time.Duration, sandboxes int, heard bool) time.Duration {
	if !heard || sandboxes <= roundMany {
		return interval
	}
	return interval * time.Duration(sandboxes) / roundMany
}

// hears tells whether changes of the host's links are heard.
func (e *Engine) hears() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hostTried && e.hostErr == nil
}
