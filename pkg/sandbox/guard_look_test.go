// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// silentHost is a watcher that hears nothing.
type silentHost struct{ hostWatcher }

// What was read of the host serves several comparisons until something is heard of the host.
func TestReadingsAreSharedUntilTheHostChanges(t *testing.T) {
	g := newGuard(&Engine{})
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
	g := newGuard(&Engine{})
	g.calmly = 1
	defer g.end()
	add := func(id string, cause urgency) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.mark(g.ward(newSandbox(record.Identity{ID: id})), cause)
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
	g.mu.Lock()
	for _, w := range []*ward{first.w, held.w} {
		w.busy = false
		g.ended(w)
	}
	calm := g.calm
	g.mu.Unlock()
	if third := <-take(); third.cause != slow || calm != 0 {
		t.Errorf("the third is %d, with %d others", third.cause, calm)
	}
}

// Its own entries, of which it hears before it has recorded them, are no reason to look again; a loss is.
func TestWhatALookWritesLeadsToNoOther(t *testing.T) {
	const old, now = neighbor.HardwareAddr("02:00:00:00:00:01"), neighbor.HardwareAddr("02:00:00:00:00:02")
	written := neighbor.Event{Kind: neighbor.NeighborChanged, Dst: netip.MustParseAddr(gateway4), LLAddr: now, State: []string{"PERMANENT"}}
	lost := neighbor.Event{Kind: neighbor.NeighborRemoved, Dst: written.Dst}
	entry := func(lladdr neighbor.HardwareAddr) []neighbor.Neighbor {
		return []neighbor.Neighbor{{Dst: written.Dst, Dev: "eth0", LLAddr: lladdr, Family: neighbor.FamilyInet, State: written.State, Source: neighbor.SourcePeer}}
	}
	for name, c := range map[string]struct {
		during []neighbor.Event
		again  bool
	}{
		"its own entry": {[]neighbor.Event{written}, false},
		"a loss":        {[]neighbor.Event{written, lost}, true},
		"many":          {slices.Repeat([]neighbor.Event{written}, maxDuring+1), true},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuard(&Engine{})
			defer g.end()
			s := newSandbox(record.Identity{ID: "one"})
			s.rec.Neighbors = entry(old)
			g.mu.Lock()
			g.mind(s)
			w := g.ward(s)
			g.mark(w, event)
			g.mu.Unlock()
			if got, _ := g.next(); got != w {
				t.Fatal("it is not looked at")
			}
			g.mu.Lock()
			for _, ev := range c.during {
				if !g.happened(w, ev) {
					t.Errorf("%v led to nothing", ev.Kind)
				}
			}
			g.mu.Unlock()
			s.update(func(r *record.Record) { r.Neighbors = entry(now) })
			g.done(w, basis{}, 0, nil)
			g.mu.Lock()
			defer g.mu.Unlock()
			if w.dirty != c.again || g.happened(w, written) || !g.happened(w, lost) {
				t.Errorf("it is looked at again: %t, want %t", w.dirty, c.again)
			}
		})
	}
}

// Where very many sandboxes were taken over, they are compared when the runtime has told of them, or a while after the start.
func TestManyThatWereTakenOverWaitForTheRuntime(t *testing.T) {
	began := func(t *testing.T, sandboxes int) (*Engine, <-chan urgency) {
		n := newNode(t)
		n.engine.Close() // nobody takes them
		e := &Engine{ctx: t.Context(), roster: newRoster()}
		e.guard = newGuard(e)
		for i := range sandboxes {
			s := newSandbox(record.Identity{ID: fmt.Sprint(i)})
			s.loaded = true
			e.guard.take(s)
		}
		e.guard.hold()
		e.guard.mu.Lock()
		if e.guard.holding != nil {
			e.guard.holding.Reset(time.Hour) // it ends when the test says so
		}
		e.guard.mu.Unlock()
		first := make(chan urgency, 1)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, cause := e.guard.next()
			first <- cause
		}()
		t.Cleanup(func() {
			e.guard.end()
			<-ended
		})
		return e, first
	}
	compared := func(t *testing.T, first <-chan urgency) {
		t.Helper()
		if cause := <-first; cause != takeover {
			t.Errorf("compared for %q", cause.cause())
		}
	}
	waits := func(t *testing.T, e *Engine, first <-chan urgency) {
		t.Helper()
		e.guard.mu.Lock()
		holding := e.guard.holding
		e.guard.mu.Unlock()
		if holding == nil || len(first) > 0 {
			t.Fatal("nothing waits")
		}
	}
	t.Run("not so many", func(t *testing.T) {
		_, first := began(t, adoptMany)
		compared(t, first)
	})
	t.Run("until the runtime has told", func(t *testing.T) {
		e, first := began(t, adoptMany+1)
		waits(t, e, first)
		e.Adopt(t.Context(), nil)
		compared(t, first)
	})
	t.Run("of which it never tells", func(t *testing.T) {
		e, first := began(t, adoptMany+1)
		waits(t, e, first)
		e.guard.holding.Reset(0)
		compared(t, first)
	})
}
