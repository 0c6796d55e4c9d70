// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// A proof of time is given only where nothing speaks against it.
func TestWhatSpeaksAgainstAProofOfTime(t *testing.T) {
	gateway := neighbor.Gateway{Dst: netip.MustParseAddr(gateway4), Dev: "eth0"}
	address := neighbor.Event{Kind: neighbor.AddrRemoved, Dev: "eth0", Global: true}
	for name, c := range map[string]struct {
		runtime string
		before  func(*life)
		events  []neighbor.Event
		want    record.Verdict
	}{
		"nothing":               {runtime: typeGVisor, want: record.InTime},
		"events that were lost": {runtime: typeGVisor, events: []neighbor.Event{{Kind: neighbor.Overrun}}, want: record.Unproven},
		"an address that went before CNI's result was seen": {runtime: typeGVisor, before: func(l *life) { l.early = true }, want: record.Unproven},
		"a gVisor pod from before":                          {runtime: typeGVisor, before: func(l *life) { l.sandbox.takenOver = true }, want: record.InTime},
		"a pod from before that may have done it itself":    {runtime: "io.containerd.kata.v2", before: func(l *life) { l.sandbox.takenOver = true }, want: record.Unproven},
		"a pin that was lost":                               {runtime: typeGVisor, before: func(l *life) { l.held[gateway] = false }, want: record.Late},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			s := newSandbox(n.engine, record.Identity{ID: podID, Runtime: c.runtime})
			s.update(func(r *record.Record) {
				r.Neighbors = []neighbor.Neighbor{{Dst: netip.MustParseAddr(gateway4), Dev: "eth0", LLAddr: otherMAC}}
				r.CapturedAt = time.Now()
			})
			l := &life{engine: n.engine, sandbox: s, held: map[neighbor.Gateway]bool{gateway: true}, down: map[string]bool{}, ackedAt: time.Now().Add(-time.Second)}
			if c.before != nil {
				c.before(l)
			}
			if _, taken := l.observe(append(c.events, address)); !taken {
				t.Fatal("the hand-over was not seen")
			}
			l.decide(time.Now())
			if got := s.record().Timing.Verdict; got != c.want {
				t.Errorf("verdict %s, want %s", got, c.want)
			}
		})
	}
}

// What another process proved meanwhile stands, whatever this one has seen.
func TestAWeakerVerdictTakesNothingFromAStrongerOne(t *testing.T) {
	n := newNode(t)
	for _, weaker := range []record.Verdict{record.Unproven, record.Late} {
		s := newSandbox(n.engine, record.Identity{ID: podID, Runtime: typeGVisor})
		s.update(func(r *record.Record) { r.Timing = record.Timing{Verdict: record.InTime, MarginMs: 7} })
		l := &life{engine: n.engine, sandbox: s}
		l.conclude(weaker, 0)
		if got := s.record().Timing; got.Verdict != record.InTime || got.MarginMs != 7 {
			t.Errorf("%s has made of it %+v", weaker, got)
		}
	}
}

// A pin that came after the first container is late, although it stands.
func TestAPinAfterTheFirstContainerIsLate(t *testing.T) {
	for name, c := range map[string]struct {
		acked time.Duration // after the container
		flush bool
		want  record.Verdict
	}{
		"before it":           {acked: -time.Second, want: record.InTime},
		"after it":            {acked: time.Second, want: record.Late},
		"before it, and gone": {acked: -time.Second, flush: true, want: record.Late},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			p := n.running()
			rec := n.record()
			if c.flush {
				n.engine.Close() // which would put it back
				p.IP("neigh del " + gateway4 + " dev eth0")
			}
			table, err := neighbor.Open(p.NS.NS)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = table.Close() }()
			s := newSandbox(n.engine, record.Identity{ID: "other", Runtime: typeRunc})
			s.update(func(r *record.Record) { r.Neighbors, r.CapturedAt = rec.Neighbors, rec.CapturedAt })
			s.containerComes()
			l := &life{engine: n.engine, sandbox: s, table: table, held: map[neighbor.Gateway]bool{}, ackedAt: s.containerCame().Add(c.acked)}
			_ = l.verify(t.Context()) // mends what is gone
			if got := s.record().Timing; got.Verdict != c.want {
				t.Errorf("%+v, want %s", got, c.want)
			}
		})
	}
}

// Where nobody has an entry is known from before the pod's programs run, and where somebody has one, too.
func TestAPlaceIsVacantOnlyWhereNobodyHadAnEntry(t *testing.T) {
	gateway := neighbor.Gateway{Dst: netip.MustParseAddr(gateway4), Dev: "eth0"}
	for reason, want := range map[neighbor.Reason]bool{
		neighbor.ReasonRouterBeyondBridge: true, neighbor.ReasonContested: false, neighbor.ReasonInvalidEntry: false,
		neighbor.ReasonUnowned: false, neighbor.ReasonPinFailed: false,
	} {
		r := record.Record{Skipped: []neighbor.Skipped{{Dst: gateway.Dst, Dev: gateway.Dev, Reason: reason}}}
		vacate(&r)
		if got := len(r.Vacant) == 1 && r.Vacant[0] == gateway; got != want {
			t.Errorf("%s: vacant is %t, want %t", reason, got, want)
		}
	}
	found := neighbor.Resolution{Neighbors: []neighbor.Neighbor{{Dst: gateway.Dst, Dev: gateway.Dev, LLAddr: otherMAC}}}
	stands := neighbor.Neighbor{Dst: gateway.Dst, Dev: gateway.Dev, LLAddr: foreignMAC}
	for reason, want := range map[neighbor.Reason]neighbor.HardwareAddr{neighbor.ReasonRouterBeyondBridge: otherMAC, neighbor.ReasonPinFailed: ""} {
		c := &comparison{before: record.Record{Vacant: []neighbor.Gateway{gateway}, Skipped: []neighbor.Skipped{{Dst: gateway.Dst, Dev: gateway.Dev, Reason: reason}}}}
		if got := c.displaced(stands, found); got != want {
			t.Errorf("%s: what stands there was put in the place of %q, want %q", reason, got, want)
		}
	}
}

// What comes and goes in the kernel's table of a gateway without a pin costs no look, unless it is somebody's.
func TestDynamicEntriesOfAGatewayWithoutAPinCostNoLook(t *testing.T) {
	dst := netip.MustParseAddr(gateway4)
	r := record.Record{Skipped: []neighbor.Skipped{{Dst: dst, Dev: "eth0", Reason: neighbor.ReasonRouterBeyondBridge}}}
	for state, want := range map[string]bool{"REACHABLE": false, "STALE": false, "PERMANENT": true} {
		ev := neighbor.Event{Kind: neighbor.NeighborChanged, Dst: dst, LLAddr: otherMAC, State: []string{state}}
		if got := r.Concerns(ev); got != want {
			t.Errorf("an entry that is %s: %t, want %t", state, got, want)
		}
	}
	if ev := (neighbor.Event{Kind: neighbor.NeighborRemoved, Dst: dst}); !r.Concerns(ev) {
		t.Error("the end of somebody's entry leads to no look")
	}
}

// The pod's routes after its start are its own doing: it cannot have pinned what it likes.
func TestAGatewayThatThePodMadeUpSinceIsNotPinned(t *testing.T) {
	n := newNode(t)
	p := n.running()
	const madeUp = "10.88.0.77"
	p.IP("route add 10.99.0.0/16 via " + madeUp)
	<-n.engine.guard.Check(guard.Event, wards(n.all())...)
	n.settled(podID)
	if got := p.permanent(); strings.Contains(got, madeUp) || n.annotated()[madeUp] != "" {
		t.Errorf("entries %q, annotation %v", got, n.annotated())
	}
	if rec := n.record(); len(rec.Neighbors) != 2 || len(rec.Skipped) != 0 {
		t.Errorf("record %+v", rec)
	}
}

// Whatever else happens in the pod between two entries of somebody's, they are counted.
func TestOtherEventsForgiveNoForeignEntry(t *testing.T) {
	n := newNode(t)
	p := n.running()
	mac := n.outside.MAC("veth0")
	for i := range insistence {
		p.IP("neigh replace " + gateway4 + " dev eth0 lladdr " + foreignMAC + " nud permanent")
		if i < insistence-1 {
			n.eventually("the pin to be put back", func() bool { return strings.Count(p.permanent(), mac) == 2 })
			n.settled(podID)
			<-n.engine.guard.Check(guard.Event, wards(n.all())...) // as an event's
			n.settled(podID)
		}
	}
	n.reasonIs(record.ReasonInsists)
}

// The moment at which a copy stopped being true is the first, however often the truth moves on.
func TestACopyIsStaleSinceTheFirstChange(t *testing.T) {
	n := newNode(t)
	n.taken()
	n.outside.IP("link set veth0 address " + otherMAC)
	n.awaitEvent(record.KindStale)
	n.settled(podID)
	first := n.record().Stale
	n.outside.IP("link set veth0 address " + foreignMAC)
	n.eventually("the copy to be untrue in another way", func() bool {
		stale := n.record().Stale
		return len(stale) == 2 && stale[0].LLAddr == foreignMAC
	})
	for i, s := range n.record().Stale {
		if !s.Since.Equal(first[i].Since) || s.Copied != first[i].Copied {
			t.Errorf("stale %+v, was %+v", s, first[i])
		}
	}
}

// An address that CNI takes away itself before the store has its result is no sign of the runtime.
func TestAnAddressThatWentBeforeTheStoreHadTheResultWasCNIs(t *testing.T) {
	n := newNode(t)
	p := n.newPod("runsc", typeGVisor).listed().cni()
	n.eventually("the store to be asked", func() bool { return n.store.asked() > 0 })
	p.IP("address add 10.88.0.3/24 dev eth0", "address del 10.88.0.3/24 dev eth0")
	asked := n.store.asked()
	n.eventually("the store to be asked again, twice", func() bool { return n.store.asked() > asked+1 })
	p.ready()
	n.awaitPinned()
	p.take()
	n.awaitVerdict(record.InTime)
}

// A namespace that nobody names is told of once, and one that has gone is not looked for.
func TestANamespaceWithoutAnOwner(t *testing.T) {
	t.Run("is told of once", func(t *testing.T) {
		n := newNode(t)
		find := newSearch()
		find.add("/run/netns/nobodys", false)
		find.pending["/run/netns/nobodys"] = sighting{time.Now().Add(-2 * ownerDeadline), false}
		find.add("/run/netns/young", false)
		for range 3 {
			n.engine.answered(&find, listing{records: []containerd.Record{}})
		}
		if got := n.log.count(record.KindUnidentified); got != 1 || n.log.last(record.KindUnidentified).Path != "/run/netns/nobodys" {
			t.Errorf("told %d times: %+v", got, n.log.last(record.KindUnidentified))
		}
	})
	t.Run("has gone", func(t *testing.T) {
		n := newNode(t)
		gone := n.newPodAs("gone", "runsc", typeGVisor) // of which no record tells
		n.eventually("its owner to be looked for", func() bool { return n.store.listed() > 2 })
		n.veth(gone.NS, "veth9")
		gone.remove()
		// A namespace is asked for every few milliseconds at first, every tenth of a second until it is told of.
		ended, lists, since := time.Now(), 0, time.Now()
		n.eventually("the store to be left alone", func() bool {
			if now := n.store.listed(); now != lists {
				lists, since = now, time.Now()
			}
			return time.Since(since) > 500*time.Millisecond
		})
		if took := since.Sub(ended); took > ownerDeadline/2 {
			t.Errorf("looked for until %s after its end", took)
		}
	})
}

// Records that cannot be decoded beside others say that the store is up, and are told of.
func TestAStoreOfWhichSomeRecordsAreTornIsUp(t *testing.T) {
	n := newNode(t)
	n.eventually("the store to be asked", func() bool { return n.store.listed() > 0 })
	torn := errors.New("decode record x")
	n.engine.storeAnswered([]containerd.Record{}, torn)
	if !n.engine.storeUp() {
		t.Error("it is down")
	}
	if event := n.awaitEvent(record.KindStore); !errors.Is(n.log.last(record.KindStore).Err, torn) {
		t.Errorf("told %+v", event)
	}
	n.engine.storeAnswered(nil, errDown)
	if n.engine.storeUp() {
		t.Error("it is up without an answer")
	}
}

// Between the last answer that CNI was still at work and its result nobody knows who took an address.
func TestAnAddressThatWentWhileTheStoreWasSilentProvesNothing(t *testing.T) {
	n := newNode(t)
	p := n.newPod("runsc", typeGVisor).listed().cni()
	more := func() {
		asked := n.store.asked()
		n.eventually("the store to be asked twice", func() bool { return n.store.asked() > asked+1 })
	}
	more()
	n.store.fail(errDown)
	more()
	p.IP("address add 10.88.0.3/24 dev eth0", "address del 10.88.0.3/24 dev eth0")
	more()
	p.ready()
	n.store.fail(nil)
	n.awaitPinned()
	p.take()
	n.awaitVerdict(record.Unproven)
}
