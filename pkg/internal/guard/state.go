// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"maps"
	"slices"
)

// What follows is for the tests of who has a guard.

// State is what a sandbox in care waits for.
type State struct {
	Living    bool  // its life goes on
	Due       bool  // it is to be compared, or is being compared
	Postponed bool  // until its turn comes again
	Basis     Basis // what the last look rested on
	Heard     bool  // what happens in its namespace is heard
}

// State says how far a sandbox is; false is one that is not in care.
func (g *Guard) State(w *Ward) (s State, cares bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return State{
		Living: w.nudge != nil, Due: w.dirty || w.busy, Postponed: w.later != nil,
		Basis: w.basis, Heard: w.basis.Numbered && g.byNSID[w.basis.NSID] == w,
	}, g.wards[w]
}

// Wards are those in care.
func (g *Guard) Wards() []*Ward {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Keys(g.wards))
}

// Holding tells whether comparisons wait for Release.
func (g *Guard) Holding() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.holding != nil
}

// All has everything compared, for that cause.
func (g *Guard) All(cause Cause) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all(cause)
}
