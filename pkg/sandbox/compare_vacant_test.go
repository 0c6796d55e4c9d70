// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// truthComes gives the host's bridge the IPv4 gateway's address; truthGoes takes it away.
func (n *node) truthComes() {
	n.t.Helper()
	n.outside.IP("address add " + gateway4 + "/24 dev br0")
}

func (n *node) truthGoes() {
	n.t.Helper()
	n.outside.IP("address del " + gateway4 + "/24 dev br0")
}

func (p *pod) lies() {
	p.IP("neigh replace " + gateway4 + " dev eth0 lladdr " + foreignMAC + " nud permanent")
}

// reasonIs waits until the IPv4 gateway has no pin for a reason; empty means that it has one.
func (n *node) reasonIs(want neighbor.Reason) {
	n.t.Helper()
	n.eventually("the reason to be "+string(want), func() bool {
		return skippedFor(n.record(), neighbor.Gateway{Dst: netip.MustParseAddr(gateway4), Dev: "eth0"}) == want
	})
	n.settled(podID)
}

// What a program in the pod writes while nobody on the host is the gateway is drift, too: when the truth comes back, so does
// the pin, over a restart as well. Only who insists keeps the table.
func TestEntryThatThePodWroteWhileThereWasNoTruthIsReplacedByIt(t *testing.T) {
	n := newNode(t)
	p := n.bridged()
	mac := n.outside.MAC("veth0")
	for round := range insistence - 1 {
		n.truthGoes()
		n.reasonIs(neighbor.ReasonRouterBeyondBridge)
		p.lies()
		n.reasonIs(neighbor.ReasonUnowned)
		if strings.Contains(p.permanent(), gateway4+" dev eth0 lladdr "+mac) || n.annotated()[gateway4] != "" {
			t.Errorf("without a truth: %q, annotation %v", p.permanent(), n.annotated())
		}
		if round == 0 {
			n.engine.Close()
			n.start()
			n.settled(podID)
		}
		n.truthComes()
		n.eventually("the pin to be back", func() bool { return strings.Contains(p.permanent(), gateway4+" dev eth0 lladdr "+mac) })
		n.reasonIs("")
		if rec := n.record(); len(rec.Vacant) != 0 || n.annotated()[gateway4] != mac {
			t.Errorf("record %+v", rec)
		}
	}
	n.truthGoes()
	n.reasonIs(neighbor.ReasonRouterBeyondBridge)
	p.lies()
	n.reasonIs(neighbor.ReasonUnowned)
	n.truthComes()
	n.reasonIs(record.ReasonInsists)
	if event := n.awaitEvent(record.KindInsists); event.Changes[0].Was != neighbor.HardwareAddr(mac) {
		t.Errorf("told %+v", event.Changes)
	}
	n.slowly() // the entry is still there
	n.settled(podID)
	if !strings.Contains(p.permanent(), gateway4+" dev eth0 lladdr "+foreignMAC) {
		t.Errorf("entries %q", p.permanent())
	}
	p.IP("neigh del " + gateway4 + " dev eth0")
	n.eventually("the pin to be back", func() bool {
		n.slowly() // again, as one that comes with an event counts as that
		return strings.Contains(p.permanent(), gateway4+" dev eth0 lladdr "+mac)
	})
}

// A place that was vacant from the beginning is nobody's, either.
func TestPlaceThatNeverHadAnEntryIsPinnedOverWhatThePodWrote(t *testing.T) {
	n := newNode(t)
	p := n.bridgedWithout()
	p.ready()
	n.awaitPinned()
	p.run()
	p.lies()
	n.reasonIs(neighbor.ReasonUnowned)
	n.truthComes()
	n.eventually("the pin to come", func() bool {
		return strings.Contains(p.permanent(), gateway4+" dev eth0 lladdr "+n.outside.MAC("veth0"))
	})
}

// The control: who was there when CNI had finished is an owner, whatever the host says later.
func TestOwnersEntryIsNotReplacedWhenATruthComes(t *testing.T) {
	n := newNode(t)
	p := n.bridgedWithout()
	p.lies() // CNI's own
	p.ready()
	n.awaitPinned()
	p.run()
	if rec := n.record(); len(rec.Foreign()) != 1 {
		t.Fatalf("record %+v", rec)
	}
	n.truthComes()
	n.reasonIs(neighbor.ReasonContested)
	p.IP("neigh replace " + gateway4 + " dev eth0 lladdr 02:00:00:00:00:98 nud permanent") // and it changes it
	<-n.engine.guard.Check(guard.Event, wards(n.all())...)
	n.reasonIs(neighbor.ReasonContested)
	if !strings.Contains(p.permanent(), gateway4+" dev eth0 lladdr 02:00:00:00:00:98") {
		t.Errorf("entries %q", p.permanent())
	}
}

// bridgedWithout is a pod beyond a bridge that does not hold the IPv4 gateway, before CNI's result is seen.
func (n *node) bridgedWithout() *pod {
	n.t.Helper()
	n.bridge()
	n.truthGoes()
	p := n.newPod("", typeRunc)
	p.rec.Annotations = map[string]string{selection.PinAnnotation: "true"}
	p.listed().cni()
	n.outside.IP("link set veth0 master br0")
	return p
}
