// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// silentHost is a watcher that hears nothing.
type silentHost struct{ hostWatcher }

// What was read of the host serves several comparisons until something is heard of the host.
func TestReadingsAreSharedUntilTheHostChanges(t *testing.T) {
	g := newGuard(nil)
	if g.shared(resync) != nil {
		t.Error("shared while nobody listens to the host")
	}
	g.watcher = &silentHost{}
	if g.shared(event) != nil {
		t.Error("made for one sandbox alone")
	}
	current := func() *neighbor.Readings {
		t.Helper()
		r := g.shared(resync)
		if r == nil || g.shared(slow) != r || g.shared(event) != r || g.shared(takeover) != r {
			t.Fatal("not shared")
		}
		return r
	}
	last := current()
	anew := func(why string, want bool) {
		t.Helper()
		if now := current(); (now != last) != want {
			t.Errorf("anew after %s: %t, want %t", why, now != last, want)
		} else {
			last = now
		}
	}
	const other = 3
	for _, kind := range []neighbor.EventKind{neighbor.LinkChanged, neighbor.LinkRemoved, neighbor.AddrAdded, neighbor.AddrRemoved, neighbor.Overrun} {
		g.heard([]neighbor.HostEvent{{Event: neighbor.Event{Kind: kind, Index: 7}, NSID: neighbor.HostNSID}})
		anew(kind.String(), true)
	}
	g.heard([]neighbor.HostEvent{{Event: neighbor.Event{Kind: neighbor.LinkChanged, Index: 7}, NSID: other}})
	anew("an event of another namespace", false)
	g.heard([]neighbor.HostEvent{{Event: neighbor.Event{Kind: neighbor.NeighborChanged, Index: 7}, NSID: neighbor.HostNSID}})
	anew("an entry of the host's", false)
	g.watcher = &silentHost{} // after a gap
	anew("a gap", true)
	g.readings.began = time.Now().Add(-2 * readingsAge)
	anew("a while", true)
	g.end()
}

// One worker fewer than there are processors compares what is not urgent, unless one of them is held up.
func TestWhatIsNotUrgentLeavesAProcessor(t *testing.T) {
	g := newGuard(nil)
	g.calmly = 1
	defer g.end()
	add := func(id string, cause urgency) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.mark(g.ward(newSandbox(Identity{ID: id})), cause)
	}
	type taken struct {
		w     *ward
		cause urgency
		at    time.Time
	}
	take := func() chan taken {
		c := make(chan taken, 1)
		go func() {
			w, cause := g.next()
			c <- taken{w, cause, time.Now()}
		}()
		return c
	}
	for i := range 3 {
		add(fmt.Sprint("calm", i), slow)
	}
	began := time.Now()
	first := <-take()
	second := take()
	add("urgent", event)
	third := take()
	urgent, held := <-second, <-third
	if held.cause == event {
		urgent, held = held, urgent
	}
	if urgent.cause != event || held.cause != slow {
		t.Errorf("taken were %d and %d", urgent.cause, held.cause)
	}
	if took := held.at.Sub(began); took < heldUp {
		t.Errorf("the second was taken after %s, when the first was not held up yet", took)
	}
	last := take()
	g.mu.Lock()
	for _, w := range []*ward{first.w, held.w} {
		w.busy = false
		g.ended(w)
	}
	calm := g.calm
	g.mu.Unlock()
	if third := <-last; third.cause != slow || calm != 0 {
		t.Errorf("the third is %d, with %d others", third.cause, calm)
	}
}

// Its own entries, of which it hears before it has recorded them, are no reason to look again.
func TestWhatALookWritesLeadsToNoOther(t *testing.T) {
	n := newNode(t)
	pods := n.many(2)
	looks := n.compared(pods[0].rec.ID)
	for round := range 10 {
		pods[0].IP("neigh del " + gateway4 + " dev eth0")
		n.eventually("the pin to be back", func() bool { return strings.Contains(pods[0].permanent(), gateway4+" ") })
		n.settled(pods[0].rec.ID)
		// What the other one is repaired for is heard after all of that.
		pods[1].IP("neigh del " + gateway4 + " dev eth0")
		n.eventually("the other's pin to be back", func() bool { return strings.Contains(pods[1].permanent(), gateway4+" ") })
		n.settled(pods[1].rec.ID)
		n.settled(pods[0].rec.ID)
		if got := looks(); got != round+1 {
			t.Fatalf("looked %d times after %d losses", got, round+1)
		}
	}
}
