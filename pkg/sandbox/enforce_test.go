// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// enforcing is a node whose engine refuses what is not pinned.
func enforcing(t *testing.T) *node {
	t.Helper()
	n := newNode(t)
	n.restart(func(o *Options) { o.Enforce = true })
	return n
}

// restart stops the engine and starts one with other options, as a new process
// would be started.
func (n *node) restart(change func(*Options)) {
	n.t.Helper()
	n.engine.Close()
	options := n.options()
	change(&options)
	engine, err := New(options)
	if err != nil {
		n.t.Fatal(err)
	}
	n.engine = engine
	if err := engine.Start(); err != nil {
		n.t.Fatal(err)
	}
}

// cniWithoutTruth gives the namespace a gateway that the host knows nothing of:
// the other end is a port of a bridge that does not hold the address.
func (p *pod) cniWithoutTruth() *pod {
	p.node.t.Helper()
	p.cni()
	p.node.outside.IP("link add br0 type bridge", "link set br0 up", "link set veth0 master br0")
	p.node.t.Cleanup(func() { p.node.outside.IP("link del br0") })
	return p
}

func TestEnforceRefusesWhatHasNoTruth(t *testing.T) {
	n := enforcing(t)
	pod := n.newPod("runsc", typeGVisor).listed().cniWithoutTruth().ready()
	n.awaitPinned()
	pod.IP("address del 10.88.0.2/24 dev eth0", "address del fd00:88::2/64 dev eth0")
	n.engine.SandboxStarted(t.Context(), identify(pod.rec))
	err := n.engine.AdmitSandbox(t.Context(), podID)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Name != "web" || refused.Container {
		t.Fatalf("AdmitSandbox: %v", err)
	}
	for _, want := range []string{"shop/web", gateway4, "RouterBeyondBridge"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	n.engine.ContainerCreating(t.Context(), podID)
	err = n.engine.AdmitContainer(t.Context(), podID)
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "delete the pod") {
		t.Errorf("AdmitContainer: %v", err)
	}
	if n.log.count(record.KindRefused) != 1 {
		t.Errorf("refused %d times in the log, want once", n.log.count(record.KindRefused))
	}

	// The pod is not older than the daemon only because the daemon started anew.
	n.restart(func(o *Options) { o.Enforce = true })
	n.engine.TakeOver(t.Context(), []record.Identity{identify(pod.rec)})
	n.engine.ContainerCreating(t.Context(), podID)
	if err := n.engine.AdmitContainer(t.Context(), podID); !errors.As(err, &refused) {
		t.Errorf("after a restart of the daemon: %v", err)
	}
	n.restart(func(*Options) {})
	if err := n.engine.AdmitContainer(t.Context(), podID); err != nil {
		t.Errorf("when nothing is enforced any more: %v", err)
	}
}

func TestEnforceAdmitsWhatIsPinnedInTime(t *testing.T) {
	n := enforcing(t)
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	pod.take()
	n.engine.SandboxStarted(t.Context(), identify(pod.rec))
	if err := n.engine.AdmitSandbox(t.Context(), podID); err != nil {
		t.Error(err)
	}
	n.awaitVerdict(record.InTime)
	n.engine.ContainerCreating(t.Context(), podID)
	if err := n.engine.AdmitContainer(t.Context(), podID); err != nil {
		t.Error(err)
	}
}

func TestEnforceAdmitsWhatHasNothingToPin(t *testing.T) {
	n := enforcing(t)
	pod := n.newPod("runsc", typeGVisor).listed()
	n.veth(pod.NS, "veth0")
	pod.IP("address add 10.88.0.2/24 dev eth0", "route add default dev eth0")
	pod.ready()
	n.awaitPinned()
	pod.IP("address del 10.88.0.2/24 dev eth0")
	n.engine.SandboxStarted(t.Context(), identify(pod.rec))
	if err := n.engine.AdmitSandbox(t.Context(), podID); err != nil {
		t.Error(err)
	}
	n.awaitVerdict(record.Nothing)
}

func TestEnforceRefusesARuntimeThatWasQuicker(t *testing.T) {
	fairly(t, func(t *testing.T) bool {
		n := enforcing(t)
		pod := n.newPod("runsc", typeGVisor).listed().cni()
		n.eventually("the engine to wait for CNI's result", func() bool { return n.store.asked() > 1 })
		pod.IP("address del 10.88.0.2/24 dev eth0", "address del fd00:88::2/64 dev eth0")
		pod.ready()
		n.engine.SandboxStarted(t.Context(), identify(pod.rec))
		began := time.Now()
		err := n.engine.AdmitSandbox(t.Context(), podID)
		var refused *RefusedError
		fair := errors.As(err, &refused) || time.Since(began) < nriWait/2 // which is how long it waits for the verdict
		if fair && refused == nil {
			t.Errorf("AdmitSandbox: %v", err)
		}
		return fair
	})
}

// A pod that ran before neighpin did is not stopped by it.
func TestEnforceAdmitsContainersOfASandboxOlderThanTheDaemon(t *testing.T) {
	n := enforcing(t)
	n.engine.Close()
	pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
	pod.IP("address del 10.88.0.2/24 dev eth0", "address del fd00:88::2/64 dev eth0")
	options := n.options()
	options.Enforce, options.Store = true, nil
	engine, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	n.engine = engine
	if err := engine.Start(); err != nil {
		t.Fatal(err)
	}
	n.engine.TakeOver(t.Context(), []record.Identity{identify(pod.rec)})
	n.engine.ContainerCreating(t.Context(), podID)
	if err := n.engine.AdmitContainer(t.Context(), podID); err != nil {
		t.Error(err)
	}
}

func TestEnforceRefusesAContainerOnTheKernelsStack(t *testing.T) {
	n := enforcing(t)
	pod := n.newPod("", typeRunc)
	pod.rec.Annotations = map[string]string{selection.PinAnnotation: "true"}
	pod.listed().cniWithoutTruth().ready()
	n.awaitPinned()
	n.engine.ContainerCreating(t.Context(), podID)
	var refused *RefusedError
	if err := n.engine.AdmitContainer(t.Context(), podID); !errors.As(err, &refused) {
		t.Errorf("AdmitContainer: %v", err)
	}
}

// The daemon is stopped between its refusal and the moment at which the sandbox
// would have been seen to start.
func TestEnforceRemembersARefusalThatCameBeforeTheStart(t *testing.T) {
	n := enforcing(t)
	pod := n.newPod("runsc", typeGVisor).listed().cniWithoutTruth().ready()
	n.awaitPinned()
	n.engine.SandboxStarted(t.Context(), identify(pod.rec))
	var refused *RefusedError
	if err := n.engine.AdmitSandbox(t.Context(), podID); !errors.As(err, &refused) || n.record().Phase != record.Starting {
		t.Fatalf("AdmitSandbox: %v, record %+v", err, n.record())
	}
	n.restart(func(o *Options) { o.Enforce = true })
	n.engine.TakeOver(t.Context(), []record.Identity{identify(pod.rec)})
	n.engine.ContainerCreating(t.Context(), podID)
	if err := n.engine.AdmitContainer(t.Context(), podID); !errors.As(err, &refused) {
		t.Errorf("AdmitContainer after the restart: %v, record %+v", err, n.record())
	}
}
