// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/probe"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

const routerMAC = "02:00:00:00:00:01"

// newAskingNode makes a node that asks for gateways of which its host knows nothing.
func newAskingNode(t *testing.T) *node {
	t.Helper()
	return newNodeWith(t, func(n *node) { n.learn = 100 * time.Millisecond })
}

// segment makes a bridge without addresses, so that a gateway is another machine.
func (n *node) segment() {
	n.t.Helper()
	n.outside.IP("link add br0 type bridge", "link set br0 up")
	n.t.Cleanup(func() { n.outside.IP("link del br0") })
}

// machine is another one on the segment.
func (n *node) machine(name, mac string, addresses ...string) *nstest.NS {
	n.t.Helper()
	m := nstest.New(n.t)
	n.veth(m, name)
	n.outside.IP("link set " + name + " master br0")
	m.IP("link set eth0 address " + mac)
	for _, address := range addresses {
		m.IP("address add " + address + " dev eth0 nodad")
	}
	return m
}

// beyond is a pod on the segment, before CNI's result is there.
func (n *node) beyond(handler, runtime string) *pod {
	n.t.Helper()
	p := n.newPod(handler, runtime)
	if runtime == typeRunc {
		p.rec.Annotations = map[string]string{selection.PinAnnotation: "true"}
	}
	p.listed().cni()
	n.outside.IP("link set veth0 master br0")
	return p
}

func TestGatewayThatOnlyTheWireKnowsIsNotPinnedUnlessAskedFor(t *testing.T) {
	n := newNode(t)
	n.segment()
	n.machine("router", routerMAC, gateway4+"/24", gateway6+"/64")
	p := n.beyond("runsc", typeGVisor).ready()
	n.awaitPinned()
	if rec := n.record(); p.permanent() != "" || len(rec.Skipped) != 2 || rec.Skipped[0].Reason != neighbor.ReasonRouterBeyondBridge || rec.Probes != nil {
		t.Errorf("entries %q, record %+v", p.permanent(), rec)
	}
}

func TestLearnedGatewayIsPinnedBeforeNRIsHandlerReturns(t *testing.T) {
	fairly(t, func(t *testing.T) bool {
		n := newAskingNode(t)
		n.store.fail(errDown)
		n.segment()
		n.machine("router", routerMAC, gateway4+"/24", gateway6+"/64")
		p := n.beyond("runsc", typeGVisor)
		began := time.Now()
		n.engine.SandboxStarted(t.Context(), identify(p.rec))
		if took := time.Since(began); took >= firstAskTimeout { // the routers answer at once
			return false
		}
		if strings.Count(p.permanent(), routerMAC) != 2 {
			t.Fatalf("entries %q", p.permanent())
		}
		p.take()
		rec := n.awaitVerdict(record.InTime)
		if len(rec.Neighbors) != 2 || rec.Neighbors[0].Source != neighbor.SourceLearned || len(rec.Probes) != 2 || rec.Repins != 0 {
			t.Errorf("record %+v", rec)
		}
		if n.log.count(record.KindPinned) != 1 || n.log.count(record.KindRepinned) != 0 {
			t.Errorf("told %d times as pinned, %d as pinned again", n.log.count(record.KindPinned), n.log.count(record.KindRepinned))
		}
		return true
	})
}

// learnt is a pod on the kernel's stack whose gateways were learned.
func (n *node) learnt() *pod {
	n.t.Helper()
	p := n.beyond("", typeRunc).ready()
	n.eventually("the gateways to be learned", func() bool { return strings.Count(p.permanent(), routerMAC) == 2 })
	p.run()
	return p
}

func TestLearnedPinFollowsARouterThatTellsNobody(t *testing.T) {
	n := newAskingNode(t)
	n.segment()
	router := n.machine("router", routerMAC, gateway4+"/24", gateway6+"/64")
	p := n.learnt()
	router.IP("link set eth0 address " + otherMAC)
	n.eventually("the pins to follow", func() bool { return strings.Count(p.permanent(), otherMAC) == 2 })
	n.settled(podID)
	if rec := n.record(); n.annotated()[gateway4] != otherMAC || rec.Repins == 0 || len(rec.Stale)+len(rec.Doubts) != 0 {
		t.Errorf("record %+v", rec)
	}
}

func TestLearnedCopyOfATakenSandboxIsWatched(t *testing.T) {
	n := newAskingNode(t)
	n.segment()
	router := n.machine("router", routerMAC, gateway4+"/24", gateway6+"/64")
	p := n.beyond("runsc", typeGVisor).ready()
	n.eventually("the gateways to be learned", func() bool { return strings.Count(p.permanent(), routerMAC) == 2 })
	n.awaitPinned()
	p.take()
	n.awaitVerdict(record.InTime)
	n.settled(podID)
	router.IP("link set eth0 address " + otherMAC)
	n.eventually("both copies to be stale", func() bool { return len(n.record().Stale) == 2 })
	if rec := n.record(); rec.Stale[0].Copied != routerMAC || rec.Stale[0].LLAddr != otherMAC || n.annotated()[gateway4] != otherMAC {
		t.Errorf("record %+v", rec)
	}
	router.IP("link set eth0 address " + routerMAC)
	n.eventually("both copies to be true again", func() bool { return len(n.record().Stale) == 0 })
}

func TestConflictFreezesALearnedPinUntilTheyAgree(t *testing.T) {
	n := newAskingNode(t)
	n.segment()
	n.machine("router", routerMAC, gateway4+"/24", gateway6+"/64")
	p := n.learnt()
	before := p.permanent()
	spoofer := n.machine("spoofer", foreignMAC, gateway4+"/24")
	event := n.awaitEvent(record.KindConflict)
	if len(event.Changes) != 1 || event.Changes[0].Was != routerMAC || len(event.Changes[0].Claims) != 2 {
		t.Errorf("told %+v", event.Changes)
	}
	n.settled(podID)
	if rec := n.record(); len(rec.Doubts) != 1 || rec.Doubts[0].Reason != record.ReasonConflict || !slices.Contains(rec.Doubts[0].Claims, foreignMAC) {
		t.Errorf("record %+v", rec)
	}
	heard := n.asks(p)
	n.eventually("some more questions", func() bool { return n.asks(p) != heard })
	if got := p.permanent(); got != before || n.log.count(record.KindConflict) != 1 {
		t.Errorf("entries %q, told %d times", got, n.log.count(record.KindConflict))
	}
	spoofer.IP("address del " + gateway4 + "/24 dev eth0")
	n.eventually("the conflict to be over", func() bool { return len(n.record().Doubts) == 0 })
	if got := p.permanent(); got != before {
		t.Errorf("entries %q", got)
	}
}

// asks is what came last of asking for a pod's IPv4 gateway.
func (n *node) asks(p *pod) time.Time {
	s, _ := n.engine.find(p.rec.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard[neighbor.Gateway{Dst: netip.MustParseAddr(gateway4), Dev: "eth0"}].since
}

func TestContestedGatewayIsNotLearned(t *testing.T) {
	n := newAskingNode(t)
	n.segment()
	n.machine("router", routerMAC, gateway4+"/24", gateway6+"/64")
	n.machine("spoofer", foreignMAC, gateway4+"/24")
	p := n.beyond("runsc", typeGVisor).ready()
	n.awaitEvent(record.KindConflict)
	n.awaitPinned()
	n.eventually("the other gateway to be pinned", func() bool { return strings.Contains(p.permanent(), gateway6) })
	if got := p.permanent(); strings.Contains(got, gateway4+" ") {
		t.Errorf("entries %q", got)
	}
	if rec := n.record(); len(rec.Skipped) != 1 || rec.Skipped[0].Reason != record.ReasonConflict {
		t.Errorf("record %+v", rec)
	}
}

func TestGatewayThatNobodyAnswersForIsAskedForUntilSomebodyDoes(t *testing.T) {
	n := newAskingNode(t)
	n.segment()
	p := n.beyond("", typeRunc).ready()
	n.awaitPinned()
	// With the first pins, or where the machine stood still meanwhile, after another question.
	n.eventually("it to be said that nobody answers", func() bool {
		rec := n.record()
		return len(rec.Skipped) == 2 && rec.Skipped[0].Reason == record.ReasonNoAnswer && len(rec.Doubts) == 2
	})
	p.run()
	n.machine("router", routerMAC, gateway4+"/24", gateway6+"/64")
	n.eventually("the gateways to be pinned", func() bool { return strings.Count(p.permanent(), routerMAC) == 2 })
	n.settled(podID)
	if rec := n.record(); len(rec.Skipped)+len(rec.Doubts) != 0 || n.annotated()[gateway4] != routerMAC {
		t.Errorf("record %+v", rec)
	}
	if n.log.count(record.KindSilent) != 0 {
		t.Error("told as silent, although it is in the reason")
	}
}

// Without CAP_NET_RAW nothing can be asked.
func TestAskingThatFailsIsSaidOnce(t *testing.T) {
	n := newAskingNode(t)
	n.engine.Close()
	engine, err := New(n.options())
	if err != nil {
		t.Fatal(err)
	}
	engine.probe = func(context.Context, *netns.NS, []neighbor.Ask, probe.Options) ([]probe.Answer, error) {
		return nil, fs.ErrPermission // a fake: the tests have the right
	}
	n.engine = engine
	if err := engine.Start(); err != nil {
		t.Fatal(err)
	}
	n.segment()
	p := n.beyond("", typeRunc).ready()
	n.awaitEvent(record.KindFailed)
	n.awaitPinned()
	p.run()
	heard := time.Now()
	n.eventually("some more attempts", func() bool { return time.Since(heard) > 500*time.Millisecond })
	if rec := n.record(); n.log.count(record.KindFailed) != 1 || !strings.Contains(rec.Error, fs.ErrPermission.Error()) {
		t.Errorf("told %d times, record %+v", n.log.count(record.KindFailed), rec)
	}
}

func TestSilenceIsADoubtOnlyAfterAWhileAndMovesNothing(t *testing.T) {
	rec := atRest(t)
	rec.Neighbors[0].Source = neighbor.SourceLearned
	ask := neighbor.Ask{Dst: rec.Neighbors[0].Dst, Dev: rec.Neighbors[0].Dev}
	rec.Probes = []neighbor.Ask{ask}
	began := time.Now()
	quiet := map[neighbor.Gateway]hearing{ask.Gateway(): {since: began}}
	for after, want := range map[time.Duration]int{silence - time.Second: 0, silence: 1} {
		learned, doubts := judge(rec, quiet, began.Add(after))
		if len(doubts) != want || len(learned) != 1 || learned[0].LLAddr != rec.Neighbors[0].LLAddr {
			t.Errorf("after %s: %+v, %+v", after, learned, doubts)
		}
	}
	// One answer of one station is too little to go by.
	const somebodys = "02:00:00:00:77:77"
	once := map[neighbor.Gateway]hearing{ask.Gateway(): {Answer: probe.Answer{Ask: ask, LLAddrs: []neighbor.HardwareAddr{somebodys}}, since: began}}
	if learned, doubts := judge(rec, once, began.Add(time.Hour)); len(doubts) != 0 || learned[0].LLAddr == somebodys {
		t.Errorf("after one answer: %+v, %+v", learned, doubts)
	}
}

// IPv6 may not ask before its own address is made sure of, and asks at once then.
func TestAddressThatIsStillTentativeAsksWhenItMay(t *testing.T) {
	fairly(t, func(t *testing.T) bool {
		n := newNodeWith(t, func(n *node) { n.learn = time.Hour })
		n.segment()
		n.machine("router", routerMAC, gateway4+"/24", gateway6+"/64")
		p := n.newPod("", typeRunc)
		p.rec.Annotations = map[string]string{selection.PinAnnotation: "true"}
		p.listed()
		n.veth(p.NS, "veth0")
		n.outside.IP("link set veth0 master br0")
		// Nor is there an address of the link's own to ask from.
		p.IP("link set eth0 down", "link set eth0 addrgenmode none", "link set eth0 up")
		p.Sysctl("net/ipv6/conf/eth0/accept_dad", "1")
		p.Sysctl("net/ipv6/conf/eth0/dad_transmits", "1")
		p.IP("address add 10.88.0.2/24 dev eth0", "address add fd00:88::2/64 dev eth0",
			"route add default via "+gateway4, "route add default via "+gateway6)
		p.ready()
		n.awaitPinned()
		got := p.permanent()
		if got == "" {
			return false // the first question was given up before its answer was read, and the next is an hour away
		}
		if !strings.Contains(got, gateway4+" ") || strings.Contains(got, gateway6) {
			t.Fatalf("entries %q while the address is tentative", got)
		}
		if rec := n.record(); len(rec.Skipped) != 1 || rec.Skipped[0].Reason != neighbor.ReasonRouterBeyondBridge {
			t.Errorf("record %+v", rec)
		}
		n.eventually("both to be pinned", func() bool { return strings.Count(p.permanent(), routerMAC) == 2 })
		return true
	})
}
