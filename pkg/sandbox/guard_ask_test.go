// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/probe"
	"github.com/neighpin/neighpin/pkg/record"
)

// A pod that takes its link down hears no answer, and each question in it lasts until
// the askers give up; so does one that gives its link another address all the time. Many such pods keep them busy; one that begins goes before.
func TestFirstQuestionsGoBeforeThoseOfPodsThatHearNothing(t *testing.T) {
	n := newNode(t)
	n.engine.Close() // nobody asks
	n.engine.opts.Learn, n.engine.opts.LearnInterval = true, time.Nanosecond
	g := newGuard(n.engine)
	asker := func(id string, asked bool) *ward {
		s := newSandbox(record.Identity{ID: id})
		ask := neighbor.Ask{Dst: netip.MustParseAddr(gateway4), Dev: "eth0"}
		s.rec.Probes = []neighbor.Ask{ask}
		if asked {
			was := ask
			if id == "restless" { // its link has another address since
				was.LLAddr = otherMAC
			}
			s.heard = map[neighbor.Gateway]hearing{ask.Gateway(): {Answer: probe.Answer{Ask: was}}}
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		w := g.ward(s)
		g.scheduleAsk(w)
		return w
	}
	waiting := func(want int) func() bool {
		return func() bool {
			g.mu.Lock()
			defer g.mu.Unlock()
			busy := 0
			for _, w := range g.wards {
				if w.asking.busy {
					busy++
				}
			}
			return busy == want
		}
	}
	const silent = 100
	for i := range silent {
		asker(fmt.Sprint("silent", i), true)
	}
	nstest.Eventually(t, "all to wait for an asker", waiting(silent))
	asker("restless", true)
	nstest.Eventually(t, "one more to wait", waiting(silent+1))
	first := asker("first", false)
	nstest.Eventually(t, "the new one to wait, too", waiting(silent+2))
	second := asker("second", false)
	nstest.Eventually(t, "and the next", waiting(silent+3))
	for i, want := range []*ward{first, second} {
		if got := g.nextToAsk(); got != want {
			t.Errorf("number %d is asked for %s, want %s", i, got.sandbox.id.ID, want.sandbox.id.ID)
		}
	}
	if got := g.nextToAsk(); got == nil || got.sandbox.id.ID == "first" {
		t.Error("the others are not asked for any more")
	}
}
