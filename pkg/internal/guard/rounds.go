// SPDX-License-Identifier: Apache-2.0

package guard

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
func (g *Guard) rounds() {
	for g.ctx.Err() == nil {
		g.mu.Lock()
		wards := slices.Collect(maps.Keys(g.wards))
		g.mu.Unlock()
		g.opts.Round()
		g.round(g.opts.Interval, wards)
	}
}

// round goes through some wards once.
func (g *Guard) round(interval time.Duration, wards []*Ward) {
	heard := roundTime(interval, len(wards))
	steps := max(1, min(len(wards), int(heard/roundStep)))
	for step := range steps {
		takes := heard
		if hears, _ := g.Hears(); !hears { // the only way to find a change then, which has its whole share
			takes = interval
		}
		select {
		case <-g.ctx.Done():
			return
		case <-time.After(jittered(takes) / time.Duration(steps)):
		}
		g.mu.Lock()
		for _, w := range wards[step*len(wards)/steps : (step+1)*len(wards)/steps] {
			if g.wards[w] && w.nudge == nil { // a life looks by itself
				g.mark(w, Slow)
			}
		}
		g.mu.Unlock()
	}
}

// roundTime is how long a round through that many sandboxes takes while the host is heard.
func roundTime(interval time.Duration, sandboxes int) time.Duration {
	if sandboxes <= roundMany {
		return interval
	}
	return time.Duration(float64(interval) / roundMany * float64(sandboxes)) // which may be years
}
