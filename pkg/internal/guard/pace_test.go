// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPaceLetsBurstsThroughAndThenAShare(t *testing.T) {
	var p Pace
	start := time.Now()
	now, cost := start, time.Millisecond
	done := 0
	for now.Sub(start) < 100*time.Second {
		now = now.Add(p.Wait(now) + cost)
		p.Spend(now, cost)
		done++
		if done == 40 && now.Sub(start) > 60*time.Millisecond {
			t.Errorf("40 in a row took %s", now.Sub(start))
		}
	}
	if want := int((credit + 100*time.Second/share) / cost); done < want*9/10 || done > want*11/10 {
		t.Errorf("%d in 100 s, want about %d", done, want)
	}
	// One that costs a second each time comes less often, not later for others.
	if p = (Pace{}); true {
		p.Spend(now, time.Second)
		if wait := p.Wait(now); wait < 80*time.Second {
			t.Errorf("after a second's work %s", wait)
		}
	}
}

// Memory is given back once after a storm, when that is over.
func TestMemoryIsGivenBackAfterManyComparisons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Guard{}
		look := func(times int) {
			for range times {
				g.mu.Lock()
				g.tidy()
				g.mu.Unlock()
			}
		}
		state := func() (untidy int, tidying bool) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.untidy, g.tidying != nil
		}
		look(tidyMany - 1)
		if _, tidying := state(); tidying {
			t.Error("few comparisons have memory given back")
		}
		look(1)
		for range 3 { // another one comes each time
			<-time.After(tidyAfter / 2)
			look(1)
		}
		if untidy, _ := state(); untidy == 0 {
			t.Error("memory was given back in the middle of it")
		}
		<-time.After(tidyAfter)
		synctest.Wait()
		if untidy, tidying := state(); untidy != 0 || tidying {
			t.Errorf("%d comparisons count still, and that memory is given back again is %t", untidy, tidying)
		}
	})
}
