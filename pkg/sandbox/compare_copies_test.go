// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

func TestCopyThatIsNotTrueAnyMoreIsStaleAndThenFresh(t *testing.T) {
	n := newNode(t)
	p := n.taken()
	mac := n.outside.MAC("veth0")
	if n.log.count(record.KindStale)+n.log.count(record.KindRepinned) != 0 {
		t.Fatal("the hand-over is told as drift")
	}
	if got := p.permanent(); strings.Contains(got, gateway4+" ") || !strings.Contains(got, gateway6+" dev eth0 lladdr "+mac) {
		t.Fatalf("entries after the hand-over: %q", got)
	}
	n.outside.IP("link set veth0 address " + otherMAC)
	event := n.awaitEvent(record.KindStale)
	if len(event.Changes) != 2 || event.Changes[0].Was != neighbor.HardwareAddr(mac) || event.Changes[0].Now != otherMAC {
		t.Errorf("told %+v", event.Changes)
	}
	n.settled(podID)
	rec := n.record()
	if len(rec.Stale) != 2 || rec.Stale[0].Copied != neighbor.HardwareAddr(mac) || rec.Stale[0].LLAddr != otherMAC || rec.Repins != 0 {
		t.Errorf("record %+v", rec)
	}
	// The annotation is the truth for containers to come.
	if told := n.annotated(); told[gateway4] != otherMAC {
		t.Errorf("annotation %v", told)
	}
	// What the runtime left in the namespace says the truth; what it took is not
	// put back.
	if got := p.permanent(); strings.Contains(got, gateway4+" ") || !strings.Contains(got, gateway6+" dev eth0 lladdr "+otherMAC) {
		t.Errorf("entries %q", got)
	}

	n.engine.Close() // what is stale stays so over a restart
	n.start()
	n.settled(podID)
	if again := n.record(); len(again.Stale) != 2 || !again.Stale[0].Since.Equal(rec.Stale[0].Since) || n.log.count(record.KindStale) != 0 {
		t.Errorf("after a restart, told %d times: %+v", n.log.count(record.KindStale), again)
	}
	n.outside.IP("link set veth0 address " + mac)
	event = n.awaitEvent(record.KindFresh)
	if len(event.Changes) != 2 {
		t.Errorf("told %+v", event.Changes)
	}
	n.settled(podID)
	if rec := n.record(); len(rec.Stale) != 0 || n.annotated()[gateway4] != mac {
		t.Errorf("record %+v", rec)
	}
}

// gVisor takes one address after another, and at the first of them its sandbox has started.
func TestHandOverThatTakesAWhileIsNoDrift(t *testing.T) {
	n := newNode(t)
	p := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	p.marginToCount()
	p.IP("address del 10.88.0.2/24 dev eth0")
	n.awaitVerdict(record.InTime)
	n.settled(podID)
	if got := p.permanent(); strings.Contains(got, gateway4+" ") {
		t.Errorf("entries between two addresses: %q", got)
	}
	p.IP("address del fd00:88::2/64 dev eth0")
	n.engine.Close() // and over a restart
	n.start()
	n.settled(podID)
	if got := p.permanent(); strings.Contains(got, gateway4+" ") {
		t.Errorf("entries after the hand-over: %q", got)
	}
	if rec := n.record(); rec.Repins != 0 || len(rec.Neighbors) != 2 || n.log.count(record.KindRepinned) != 0 {
		t.Errorf("told as drift %d times: %+v", n.log.count(record.KindRepinned), rec)
	}
}

func TestCopyThatLostItsTruthIsStaleWithTheReason(t *testing.T) {
	n := newNode(t)
	n.bridge()
	p := n.newPod("runsc", typeGVisor).listed().cni()
	n.outside.IP("link set veth0 master br0")
	p.ready()
	n.awaitPinned()
	p.take()
	n.awaitVerdict(record.InTime)
	n.settled(podID)
	n.outside.IP("address del " + gateway4 + "/24 dev br0")
	event := n.awaitEvent(record.KindStale)
	if len(event.Changes) != 1 || event.Changes[0].Now != "" || event.Changes[0].Reason != neighbor.ReasonRouterBeyondBridge {
		t.Errorf("told %+v", event.Changes)
	}
	n.settled(podID)
	if told := n.annotated(); told[gateway4] != "" || told[gateway6] == "" {
		t.Errorf("annotation %v", told)
	}
	n.outside.IP("address add " + gateway4 + "/24 dev br0")
	n.awaitEvent(record.KindFresh)
	n.settled(podID)
	if rec := n.record(); len(rec.Stale)+len(rec.Skipped) != 0 || len(rec.Neighbors) != 2 {
		t.Errorf("record %+v", rec)
	}
	if n.log.count(record.KindWithdrawn)+n.log.count(record.KindRepinned) != 0 {
		t.Error("told as withdrawn or pinned again")
	}
}

func TestGuestHoldsACopyToo(t *testing.T) {
	n := newNode(t)
	n.selects("kata*")
	p := n.newPod("kata-qemu", "io.containerd.kata-qemu.v2").listed().cni().ready()
	n.awaitPinned()
	n.engine.SandboxStarted(t.Context(), identify(p.rec))
	n.awaitVerdict(record.Unproven)
	n.settled(podID)
	n.outside.IP("link set veth0 address " + otherMAC)
	n.awaitEvent(record.KindStale)
	n.settled(podID)
	// Both entries are still in the namespace, and say what is true.
	if got := p.permanent(); strings.Count(got, otherMAC) != 2 {
		t.Errorf("entries %q", got)
	}
	if rec := n.record(); len(rec.Stale) != 2 || rec.Repins != 0 {
		t.Errorf("record %+v", rec)
	}
}
