// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/record"
)

// storm is all that can be told of some pods, told at once and in any order.
func (n *node) storm(ctx context.Context, pods []*pod, each int) {
	var all sync.WaitGroup
	defer all.Wait()
	ids := make([]record.Identity, len(pods))
	for i, p := range pods {
		ids[i] = identify(p.rec)
		ids[i].Annotations = p.rec.Annotations
	}
	tell := func(what func(record.Identity)) {
		all.Go(func() {
			for range each {
				what(ids[rand.N(len(ids))])
			}
		})
	}
	for range 2 {
		tell(func(id record.Identity) {
			n.engine.SandboxStarted(ctx, id)
			_ = n.engine.AdmitSandbox(ctx, id.ID)
		})
		tell(func(id record.Identity) {
			n.engine.ContainerCreating(ctx, id.ID)
			_ = n.engine.AdmitContainer(ctx, id.ID)
			n.engine.LiveFile(id.ID)
		})
		tell(func(id record.Identity) {
			n.engine.SandboxStopped(id.ID)
			n.engine.SandboxRemoved(id.ID)
		})
	}
	tell(func(id record.Identity) {
		n.engine.ContainerThere(id.ID)
		n.engine.TakeOver(ctx, ids)
	})
	// The other ends keep their addresses: a sandbox that is removed and told of
	// again, with its namespace as it was, finds a pin there that is true.
	tell(func(id record.Identity) { n.outside.IP("link set v"+id.ID+" down", "link set v"+id.ID+" up") })
	tell(func(record.Identity) { _, _ = pods[rand.N(len(pods))].TryIP("neigh del " + gateway4 + " dev eth0") })
	tell(func(record.Identity) { n.engine.Status() })
}

func (n *node) stormy() (pods []*pod) {
	n.t.Helper()
	for i := range 3 {
		pods = append(pods, n.kernelPod(fmt.Sprintf("s%d", i)))
	}
	return pods
}

func stormyNode(t *testing.T) *node {
	n := newNodeWith(t, func(n *node) { n.learn, n.returnPath, n.hostState = 20*time.Millisecond, true, HostStateReport })
	n.restart(func(o *Options) { o.Enforce = true })
	return n
}

// After a storm each sandbox is in somebody's care, and only the sandboxes that
// there are; what happens next to any of them is heard.
func TestAfterAStormEverySandboxIsFollowed(t *testing.T) {
	n := stormyNode(t)
	pods := n.stormy()
	n.storm(t.Context(), pods, 30)
	for _, p := range pods {
		id := identify(p.rec)
		id.Annotations = p.rec.Annotations
		n.engine.SandboxRemoved(id.ID) // it may have been stopped last
		n.engine.SandboxStarted(t.Context(), id)
		n.engine.ContainerCreating(t.Context(), id.ID)
		n.settled(id.ID)
	}
	for i, p := range pods {
		mac := fmt.Sprintf("02:00:00:00:ff:%02x", i)
		n.outside.IP("link set v" + p.rec.ID + " address " + mac)
		t.Cleanup(func() {
			if t.Failed() {
				disk, err := n.engine.records.Load(p.rec.ID)
				t.Logf("%s: %s; record %+v; disk %+v, %v", p.rec.ID, p.permanent(), n.recordOf(p.rec.ID), disk, err)
			}
		})
		n.eventually("the pin of "+p.rec.ID+" to follow, in the kernel, in the record and on disk", func() bool {
			disk, err := n.engine.records.Load(p.rec.ID)
			rec := n.recordOf(p.rec.ID)
			return strings.Contains(p.permanent(), mac) && err == nil && len(disk.Neighbors) == 1 && len(rec.Neighbors) == 1 &&
				string(disk.Neighbors[0].LLAddr) == mac && string(rec.Neighbors[0].LLAddr) == mac
		})
	}
	for _, s := range n.all() {
		if state, cares := n.engine.guard.State(s.ward); !cares || !state.Heard {
			t.Errorf("there, and not in care, or not heard: %s, %+v", s.id.ID, state)
		}
	}
	if there, care := len(n.all()), len(n.engine.guard.Wards()); there != len(pods) || care != len(pods) {
		t.Errorf("%d are there and %d in care, want %d", there, care, len(pods))
	}
}

func TestEndInAStorm(t *testing.T) {
	for range 5 {
		n := stormyNode(t)
		pods := n.stormy()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			n.engine.Close()
		}()
		n.storm(t.Context(), pods, 5)
		<-ended
		n.engine.Close()
		for _, p := range pods {
			n.engine.SandboxStarted(t.Context(), identify(p.rec))
			n.outside.IP("link del v" + p.rec.ID)
		}
	}
}
