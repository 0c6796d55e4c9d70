// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

func TestPinsWhenCNIHasFinishedAndNeverBefore(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).listed().cni()
	n.eventually("the engine to wait for CNI's result", func() bool { return n.store.asked() > 20 })
	if got := pod.permanent(); got != "" {
		t.Fatalf("pinned before CNI had finished: %s", got)
	}
	pod.ready()
	n.awaitPinned()
	mac := n.outside.MAC("veth0")
	for _, gateway := range []string{gateway4, gateway6} {
		if want := gateway + " dev eth0 lladdr " + mac + " "; !strings.Contains(pod.permanent(), want) {
			t.Errorf("permanent entries %q lack %q", pod.permanent(), want)
		}
	}
	pod.take()
	rec := n.awaitVerdict(record.InTime)
	if rec.Timing.MarginMs <= 0 || rec.Timing.ResultToPinMs <= 0 || rec.Phase != record.Started {
		t.Errorf("proof of time %+v, phase %s", rec.Timing, rec.Phase)
	}
	if rec.Repins != 0 {
		t.Errorf("%d repins: the hand-over is no drift", rec.Repins)
	}

	value := n.engine.ContainerCreating(t.Context(), podID)
	a, err := annotation.Parse(value)
	if err != nil {
		t.Fatalf("annotation %q: %v", value, err)
	}
	if len(a.Neighbors) != 2 || a.Cookie != pod.Cookie() {
		t.Errorf("annotation %q for cookie %d", value, pod.Cookie())
	}

	pod.remove()
	n.eventually("the record to go with the namespace", func() bool {
		_, err := os.Stat(filepath.Join(n.stateDir, "sandboxes", podID+".json"))
		return errors.Is(err, fs.ErrNotExist)
	})
	if len(n.engine.Status().Sandboxes) != 0 {
		t.Error("a sandbox that is gone is still known")
	}
}

func TestPinsAgainWhenFlushed(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	// As Cilium's CNI does as its last step, were it late.
	pod.IP("link set eth0 address " + pod.MAC("eth0"))
	n.eventually("the pins to be back", func() bool {
		return n.log.count(record.KindRepinned) > 0 && strings.Count(pod.permanent(), "PERMANENT") == 2
	})
	// Setting a MAC takes the IPv6 default route along on some kernels only.
	pod.take()
	if rec := n.awaitVerdict(record.InTime); rec.Repins == 0 {
		t.Error("no repin counted")
	}
}

func TestRepairFollowsAChangedOtherEnd(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	const mac = "02:00:00:00:12:34"
	// As udev does; the pod's namespace hears nothing of it, so something there
	// has to happen for the engine to look.
	n.outside.IP("link set veth0 address " + mac)
	pod.IP("link set eth0 mtu 1400")
	n.eventually("the pins to follow", func() bool { return strings.Count(pod.permanent(), mac) == 2 })
	pod.take()
	n.awaitVerdict(record.InTime)
}

func TestLeavesAnotherOwnersEntriesAlone(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).listed().cni()
	mac := n.outside.MAC("veth0")
	pod.IP("neigh add "+gateway4+" dev eth0 lladdr "+mac+" nud permanent", "neigh add "+gateway6+" dev eth0 lladdr "+mac+" nud permanent")
	before := pod.permanent()
	pod.ready()
	n.awaitPinned()
	rec := n.record()
	for _, neigh := range rec.Neighbors {
		if neigh.Source != neighbor.SourceExisting {
			t.Errorf("%s has source %s, want existing", neigh.Dst, neigh.Source)
		}
	}
	if got := pod.permanent(); got != before {
		t.Errorf("entries changed from %q to %q", before, got)
	}
	pod.take()
	n.awaitVerdict(record.InTime)
}

func TestKernelStackCountsToItsFirstContainer(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("", typeRunc)
	pod.rec.Annotations = map[string]string{selection.PinAnnotation: "true"}
	pod.listed().cni().ready()
	n.awaitPinned()
	if value := n.engine.ContainerCreating(t.Context(), podID); value == "" {
		t.Error("a pod that asked gets no annotation")
	}
	if rec := n.awaitVerdict(record.InTime); rec.Timing.MarginMs <= 0 {
		t.Errorf("margin %f", rec.Timing.MarginMs)
	}
	if !strings.Contains(pod.permanent(), gateway4) {
		t.Error("pin gone")
	}
}

func TestUnselectedSandboxIsNotTouched(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runc", typeRunc).listed().cni().ready()
	n.eventually("the namespace to be identified", func() bool { return n.engine.hasOwner(pod.rec.NetNSPath) })
	if n.store.asked() != 0 {
		t.Errorf("the store was asked %d times about a sandbox that is not selected", n.store.asked())
	}
	if value := n.engine.ContainerCreating(t.Context(), podID); value != "" {
		t.Errorf("annotation %q", value)
	}
	if got := pod.permanent(); got != "" {
		t.Errorf("entries %q", got)
	}
	pod.remove()
	n.eventually("the sandbox to be forgotten", func() bool { return !n.engine.hasOwner(pod.rec.NetNSPath) })
}

func TestRuntimeThatWasQuickerIsLate(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).cni()
	pod.take()
	pod.ready()
	n.awaitVerdict(record.Late)
	n.eventually("somebody to be told", func() bool { return n.log.count(record.KindFailed) > 0 })
}

func TestRestartKeepsAnnotationAndProof(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	pod.take()
	before := n.awaitVerdict(record.InTime)
	value := n.engine.ContainerCreating(t.Context(), podID)
	n.engine.Close()

	n.start()
	if got := n.engine.ContainerCreating(t.Context(), podID); got != value {
		t.Errorf("annotation after restart %q, before %q", got, value)
	}
	if got := n.record().Timing; got != before.Timing {
		t.Errorf("proof after restart %+v, before %+v", got, before.Timing)
	}
	n.engine.Close()

	pod.remove()
	n.start()
	if records := n.engine.Status().Sandboxes; len(records) != 0 {
		t.Errorf("records of sandboxes that are gone: %+v", records)
	}
}

func TestRestartWhileStartingProvesTheHandOver(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	n.engine.Close() // as kill -9 would: nothing is removed
	if strings.Count(pod.permanent(), "PERMANENT") != 2 {
		t.Fatalf("pins gone with the engine: %q", pod.permanent())
	}
	n.start()
	n.awaitPinned()
	for _, neigh := range n.record().Neighbors {
		if neigh.Source != neighbor.SourcePeer {
			t.Errorf("our own pin of %s came back as %s", neigh.Dst, neigh.Source)
		}
	}
	pod.take()
	n.awaitVerdict(record.InTime)
}

func TestTwoEnginesAgree(t *testing.T) {
	n := newNode(t)
	second, err := New(n.options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Close)
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.eventually("both to pin", func() bool {
		return n.log.count(record.KindPinned) > 0 && n.record().Phase == record.Starting && n.record().Neighbors != nil
	})
	pod.take()
	n.awaitVerdict(record.InTime)
	var a, b *annotation.Annotation
	n.eventually("both to know the annotation", func() bool {
		var errA, errB error
		a, errA = annotation.Parse(n.engine.ContainerCreating(t.Context(), podID))
		b, errB = annotation.Parse(second.ContainerCreating(t.Context(), podID))
		return errA == nil && errB == nil
	})
	if !a.SameNeighbors(b) {
		t.Errorf("annotations differ: %+v, %+v", a, b)
	}
}

func TestHostsNamespaceUnderAPodsNameIsRefused(t *testing.T) {
	n := newNode(t)
	path := filepath.Join(n.netnsDir, "cni-"+podID)
	if err := os.Symlink("/proc/self/ns/net", path); err != nil {
		t.Fatal(err)
	}
	p := &pod{node: n}
	p.rec.ID, p.rec.Handler, p.rec.Runtime, p.rec.NetNSPath = podID, "runsc", typeGVisor, path
	p.ready()
	n.eventually("the sandbox to be refused", func() bool { return n.engine.hasOwner(path) && n.record().ID == "" })
	if n.log.count(record.KindPinned) != 0 {
		t.Error("the host's own namespace was pinned")
	}
}

func TestNamespaceThatVanishesDuringCNI(t *testing.T) {
	n := newNode(t)
	pod := n.newPod("runsc", typeGVisor).listed()
	n.eventually("the engine to wait for CNI's result", func() bool { return n.store.asked() > 3 })
	pod.remove()
	n.eventually("the sandbox to be forgotten", func() bool { return n.record().ID == "" })
	if n.log.count(record.KindFailed) != 0 {
		t.Errorf("a creation that failed is no failure of ours: %v", n.log.last(record.KindFailed).Err)
	}
}

func TestWithoutStoreNRIPins(t *testing.T) {
	n := newNode(t)
	n.store.fail(errDown)
	pod := n.newPod("runsc", typeGVisor).cni()
	n.eventually("the loss to be told", func() bool { return n.log.count(record.KindStore) == 1 })
	n.started(identify(pod.rec))
	// As on containerd 1.7, where NRI comes before the task starts: the pins
	// stand when the call returns.
	if strings.Count(pod.permanent(), "PERMANENT") != 2 {
		t.Fatalf("entries after RunPodSandbox: %q", pod.permanent())
	}
	pod.take()
	n.awaitVerdict(record.InTime)
	if n.log.count(record.KindStore) != 1 {
		t.Errorf("the store's loss was told %d times", n.log.count(record.KindStore))
	}
}

func TestTakeoverRepairsWhatWasMissed(t *testing.T) {
	n := newNode(t)
	n.store.fail(errDown)
	pod := n.newPod("runsc", typeRunc).cni()
	n.takeOver(identify(pod.rec))
	if strings.Count(pod.permanent(), "PERMANENT") != 2 {
		t.Fatalf("entries after Synchronize: %q", pod.permanent())
	}
	if n.engine.ContainerCreating(t.Context(), podID) == "" {
		t.Error("no annotation for a sandbox that was taken over")
	}
	n.awaitVerdict(record.Unproven)
	n.eventually("the sandbox to settle", func() bool {
		n.engine.mu.Lock()
		defer n.engine.mu.Unlock()
		return n.engine.sandboxes[podID].settled()
	})
	// A pod with NET_ADMIN: one pin removed, and a gateway of its own invention.
	pod.IP("neigh del "+gateway4+" dev eth0", "route add 192.0.2.0/24 via 10.88.0.99")
	n.takeOver(identify(pod.rec))
	if strings.Count(pod.permanent(), "PERMANENT") != 2 {
		t.Errorf("entries after a second Synchronize: %q", pod.permanent())
	}
}

func TestRecordsThatCannotBeWrittenCostNoPin(t *testing.T) {
	n := newNode(t)
	dir := filepath.Join(n.stateDir, "sandboxes")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // root writes through any mode
		t.Fatal(err)
	}
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	pod.take()
	n.awaitVerdict(record.InTime)
	if n.log.count(record.KindRecord) == 0 {
		t.Error("nobody was told that the record is lost")
	}
}
