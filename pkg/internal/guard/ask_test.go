// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"fmt"
	"testing"
	"time"

	"github.com/neighpin/neighpin/internal/nstest"
)

// A pod that takes its link down hears no answer, and each question in it lasts until
// the askers give up; so does one that gives its link another address all the time. Many such pods keep them busy; one that begins goes before.
func TestFirstQuestionsGoBeforeThoseOfPodsThatHearNothing(t *testing.T) {
	g := idle(t, Options{AskInterval: time.Nanosecond})
	asker := func(name string, q Questions) *Ward {
		w := NewWard(&subject{name: name, questions: q})
		g.Take(w, Event)
		return w
	}
	waiting := func(want int) func() bool {
		return func() bool {
			g.mu.Lock()
			defer g.mu.Unlock()
			busy := 0
			for w := range g.wards {
				if w.asking.busy {
					busy++
				}
			}
			return busy == want
		}
	}
	const silent = 100
	for i := range silent {
		asker(fmt.Sprint("silent", i), Questions{Any: true})
	}
	nstest.Eventually(t, "all to wait for an asker", waiting(silent))
	asker("restless", Questions{Any: true, First: true})
	nstest.Eventually(t, "one more to wait", waiting(silent+1))
	first := asker("first", Questions{Any: true, First: true, Unheard: true})
	nstest.Eventually(t, "the new one to wait, too", waiting(silent+2))
	second := asker("second", Questions{Any: true, First: true, Unheard: true})
	nstest.Eventually(t, "and the next", waiting(silent+3))
	asker("nobody", Questions{})
	for i, want := range []*Ward{first, second} {
		if got := g.nextToAsk(); got != want {
			t.Errorf("number %d is asked for %s, want %s", i, got.name(), want.name())
		}
	}
	if got := g.nextToAsk(); got == nil || got.name() == "first" || got.name() == "nobody" {
		t.Error("the others are not asked for any more")
	}
}
