// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/record"
)

// quickPulse is a node whose engine notices soon that it is stuck.
func quickPulse(t *testing.T, set func(*node)) *node {
	t.Helper()
	n := newNodeWith(t, func(n *node) {
		n.pulse = func(p *pulse) {
			p.interval, p.beatOverdue, p.workOverdue = 5*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
		}
		set(n)
	})
	n.alive()
	return n
}

func (n *node) alive() {
	n.t.Helper()
	n.eventually("the engine to be alive", func() bool { return n.engine.pulse.last.Load() > 0 && n.engine.Alive() == nil })
}

func (n *node) stuck(says string) {
	n.t.Helper()
	n.eventually("the engine to be stuck", func() bool {
		err := n.engine.Alive()
		return err != nil && strings.Contains(err.Error(), says)
	})
}

func TestAnEngineWhoseLocksAreHeldIsStuck(t *testing.T) {
	n := quickPulse(t, func(*node) {})
	p := n.running()
	s, _ := n.engine.find(podID)
	for name, c := range map[string]struct {
		lock  sync.Locker
		after func()
	}{
		"the engine's": {lock: &n.engine.mu, after: func() {}},
		// It is held while a sandbox is asked whether what happened to it matters.
		"the guard's": {lock: &s.mu, after: func() { p.IP("neigh del " + gateway4 + " dev eth0") }},
	} {
		t.Run(name, func(t *testing.T) {
			unlock := sync.OnceFunc(c.lock.Unlock)
			c.lock.Lock()
			defer unlock() // or the engine could not end
			c.after()
			n.stuck("locks")
			unlock()
			n.alive()
		})
	}
}

// standstill stands for an observer that never returns. The real one is a call of
// the kernel's, which cannot be made to hang.
type standstill struct{ until <-chan struct{} }

func (o standstill) Observe(string, map[int]map[netip.Addr]bool, func(int) (bool, error)) error {
	<-o.until
	return nil
}

func (standstill) Forget(string) {}

func (standstill) Observed(string) (gateways, others uint64, since time.Time) {
	return 0, 0, time.Time{}
}

func TestAnEngineWhoseWorkersAllHangIsStuck(t *testing.T) {
	until := make(chan struct{})
	release := sync.OnceFunc(func() { close(until) })
	t.Cleanup(release)
	n := quickPulse(t, func(n *node) { n.observer, n.handlers = standstill{until}, []string{"runc"} })
	hang := func(id string) {
		p := n.newPodAs(id, "runc", typeRunc)
		p.Veth("eth0", n.outside, "v"+id)
		p.IP("address add 10.88.0.2/24 dev eth0", "route add default via "+gateway4)
		p.listed().ready()
		n.eventually("the pod to be pinned", func() bool { return len(n.recordOf(id).Neighbors) > 0 })
		n.engine.ContainerCreating(t.Context(), id)
		n.eventually("the pod to have started", func() bool { return n.recordOf(id).Phase == record.Started })
	}
	for i := range guard.Workers {
		n.alive() // with that many of them busy; a machine that stood still for a moment makes it look stuck for another
		hang(fmt.Sprintf("pod%d", i))
	}
	n.stuck("workers")
	release()
	n.alive()
}

// Whether anybody answers is another question: /readyz and the status say that.
func TestAnEngineWhoseStoreIsDownIsAlive(t *testing.T) {
	n := quickPulse(t, func(n *node) { n.store.fail(errDown) })
	n.eventually("the store to be found down", func() bool { return n.engine.Status().StoreError != nil })
	n.alive()
	engine := n.prepared()
	defer engine.Close()
	if err := engine.Alive(); err != nil {
		t.Errorf("before its start: %v", err)
	}
}
