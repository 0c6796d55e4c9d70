// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// What was read of the host serves several comparisons until something is heard of the host.
func TestReadingsAreSharedUntilTheHostChanges(t *testing.T) {
	g := idle(t, Options{})
	if g.shared(Resync) != nil {
		t.Error("shared while nobody listens to the host")
	}
	g.watcher = &deaf{}
	if g.shared(Event) != nil {
		t.Error("made for one sandbox alone")
	}
	current := func() *neighbor.Readings {
		t.Helper()
		r := g.shared(Resync)
		if r == nil || g.shared(Slow) != r || g.shared(Event) != r || g.shared(Takeover) != r {
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
		g.Heard([]neighbor.HostEvent{{Event: neighbor.Event{Kind: kind, Index: 7}, NSID: neighbor.HostNSID}})
		anew(kind.String(), true)
	}
	g.Heard([]neighbor.HostEvent{{Event: neighbor.Event{Kind: neighbor.LinkChanged, Index: 7}, NSID: other}})
	anew("an Event of another namespace", false)
	g.Heard([]neighbor.HostEvent{{Event: neighbor.Event{Kind: neighbor.NeighborChanged, Index: 7}, NSID: neighbor.HostNSID}})
	anew("an entry of the host's", false)
	g.watcher = &deaf{} // after a gap
	anew("a gap", true)
	g.readings.began = time.Now().Add(-2 * readingsAge)
	anew("a while", true)
}

// One worker fewer than there are processors compares what is not urgent, unless one of them is held up.
func TestWhatIsNotUrgentLeavesAProcessor(t *testing.T) {
	g := idle(t, Options{})
	g.calmly = 1
	add := func(id string, cause Cause) {
		g.mu.Lock()
		defer g.mu.Unlock()
		w := NewWard(&subject{name: id})
		g.care(w)
		g.mark(w, cause)
	}
	type taken struct {
		w     *Ward
		cause Cause
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
		add(fmt.Sprint("calm", i), Slow)
	}
	began := time.Now()
	first := <-take()
	second := take()
	add("urgent", Event)
	third := take()
	urgent, held := <-second, <-third
	if held.cause == Event {
		urgent, held = held, urgent
	}
	if urgent.cause != Event || held.cause != Slow {
		t.Errorf("taken were %d and %d", urgent.cause, held.cause)
	}
	if took := held.at.Sub(began); took < heldUp {
		t.Errorf("the second was taken after %s, when the first was not held up yet", took)
	}
	g.mu.Lock()
	for _, w := range []*Ward{first.w, held.w} {
		w.busy = false
		g.ended(w)
	}
	calm := g.calm
	g.mu.Unlock()
	if third := <-take(); third.cause != Slow || calm != 0 {
		t.Errorf("the third is %d, with %d others", third.cause, calm)
	}
}

// Its own entries, of which it hears before it has recorded them, are no reason to look again; a loss is.
func TestWhatALookWritesLeadsToNoOther(t *testing.T) {
	const old, now = neighbor.HardwareAddr("02:00:00:00:00:01"), neighbor.HardwareAddr("02:00:00:00:00:02")
	written := neighbor.Event{Kind: neighbor.NeighborChanged, Dst: gateway, LLAddr: now, State: []string{"PERMANENT"}}
	lost := neighbor.Event{Kind: neighbor.NeighborRemoved, Dst: written.Dst}
	for name, c := range map[string]struct {
		during []neighbor.Event
		again  bool
	}{
		"its own entry": {[]neighbor.Event{written}, false},
		"a loss":        {[]neighbor.Event{written, lost}, true},
		"many":          {slices.Repeat([]neighbor.Event{written}, maxDuring+1), true},
	} {
		t.Run(name, func(t *testing.T) {
			g := idle(t, Options{})
			recorded := old
			w := NewWard(&subject{gateways: []netip.Addr{gateway}, concerned: func(ev neighbor.Event) bool { return ev.LLAddr != recorded }})
			g.Take(w, Event)
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
			recorded = now
			g.done(w, Basis{}, 0, nil)
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
	const holdMany = 500
	begun := func(t *testing.T, many int, holdFor time.Duration) (*Guard, <-chan Cause) {
		compared := make(chan Cause, many)
		var all []*Ward
		for range many {
			all = append(all, NewWard(&subject{compare: func(look Look) (Basis, error) {
				select {
				case compared <- look.Cause:
				default: // once more, since the host is heard now
				}
				return Basis{}, nil
			}}))
		}
		ctx, stop := context.WithCancel(t.Context())
		g := idle(t, Options{Interval: time.Hour, HoldFor: holdFor, HoldMany: holdMany, WatchHost: newDeaf, Listens: func(error) {}, Round: func() {}})
		for _, w := range all {
			g.Take(w, Takeover)
		}
		g.Start(ctx)
		t.Cleanup(func() {
			stop()
			g.Close()
		})
		return g, compared
	}
	takenOver := func(t *testing.T, compared <-chan Cause) {
		t.Helper()
		if cause := <-compared; cause != Takeover {
			t.Errorf("compared for %d", cause)
		}
	}
	t.Run("not so many", func(t *testing.T) {
		_, compared := begun(t, holdMany, time.Hour)
		takenOver(t, compared)
	})
	t.Run("until the runtime has told", func(t *testing.T) {
		g, compared := begun(t, holdMany+1, time.Hour)
		if !g.Holding() || len(compared) > 0 {
			t.Fatal("nothing waits")
		}
		g.Release()
		takenOver(t, compared)
	})
	t.Run("of which it never tells", func(t *testing.T) {
		began := time.Now()
		g, compared := begun(t, holdMany+1, 200*time.Millisecond)
		takenOver(t, compared)
		if took := time.Since(began); took < 200*time.Millisecond || g.Holding() {
			t.Errorf("nothing waited: compared after %s", took)
		}
	})
}

// A comparison that failed is tried again soon, eight times, and then by the slow one.
func TestAComparisonThatFailedIsTriedAgain(t *testing.T) {
	g, w := idle(t, Options{}), NewWard(&subject{})
	g.Take(w, Event)
	for failures := 1; failures <= 10; failures++ {
		g.mu.Lock()
		w.busy, w.dirty = true, false
		g.begin(w, Event)
		g.busy++
		g.mu.Unlock()
		g.done(w, Basis{}, 0, errDown)
		g.mu.Lock()
		again := w.dirty && w.later != nil
		if w.later != nil {
			w.later.Stop()
			w.later = nil
		}
		g.mu.Unlock()
		if want := failures <= 8; again != want {
			t.Errorf("after %d failures it is tried again: %t, want %t", failures, again, want)
		}
	}
}

// Of a gateway that nobody had before nothing was heard until now, so that another look is due.
func TestAGatewayThatNobodyHadLeadsToAnotherLook(t *testing.T) {
	g := idle(t, Options{})
	one, other := NewWard(&subject{gateways: []netip.Addr{gateway}}), NewWard(&subject{gateways: []netip.Addr{gateway, netip.MustParseAddr("fd00::1")}})
	var many []netip.Addr
	for i := range neighbor.MaxEntries + 1 {
		many = append(many, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
	}
	crowd := NewWard(&subject{gateways: many})
	for i, c := range []struct {
		w    *Ward
		more bool
	}{{one, true}, {one, false}, {other, true}, {one, false}, {other, false}, {crowd, true}, {crowd, false}, {NewWard(&subject{gateways: []netip.Addr{netip.MustParseAddr("fd00::2")}}), false}} {
		if got := g.mind(c.w); got != c.more {
			t.Errorf("number %d leads to another look: %t", i, got)
		}
	}
}

// A number is another namespace's as soon as its own is gone, and a link's another link's.
func TestNothingIsKeptOfASandboxThatWasDropped(t *testing.T) {
	g := idle(t, Options{})
	var all []*Ward
	for nsid := range int32(3) {
		w := NewWard(&subject{})
		g.Watch(w)
		g.Base(w, Basis{NSID: nsid, Numbered: true, Links: []int{7, 10 + int(nsid)}, Gateways: []netip.Addr{gateway}})
		if state, cares := g.State(w); !cares || !state.Heard || !state.Living {
			t.Errorf("number %d in care: %t, %+v", nsid, cares, state)
		}
		all = append(all, w)
	}
	for _, w := range all {
		g.Drop(w)
	}
	if len(g.Wards())+len(g.byNSID)+len(g.byLink)+len(g.byGateway) > 0 {
		t.Errorf("left: %d in care, by number %v, by link %v, by gateway %v", len(g.Wards()), g.byNSID, g.byLink, g.byGateway)
	}
	g.Take(all[0], Event)
	<-g.Check(Event, all...)
	if left := g.Wards(); len(left) > 0 {
		t.Errorf("%d came back into care", len(left))
	}
}
