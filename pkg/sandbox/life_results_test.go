// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
)

const (
	longID  = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	otherID = "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

// cached makes a node that looks at results, and says of containerd what one does.
func cached(t *testing.T, one func(context.Context) (bool, error)) (n *node, folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "cni", "results") // libcni makes it with the first result
	n = newNodeWith(t, func(n *node) { n.results, n.oneNetwork = folder, one })
	return n, folder
}

func oneNetwork(context.Context) (bool, error) { return true, nil }

// result does what libcni does when a network is made.
func result(t *testing.T, folder, network, id, link string) string {
	t.Helper()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, network+"-"+id+"-"+link)
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAResultOfCNIIsEnoughToPin(t *testing.T) {
	n, folder := cached(t, oneNetwork)
	pod := n.newPodAs(longID, "runsc", typeGVisor).listed().cni()
	n.eventually("the pod to be known", func() bool { return n.recordOf(longID).ID != "" })
	result(t, folder, "cni-loopback", longID, "lo")
	result(t, folder, "pods-of-the-node", otherID, "eth0")
	n.neverPinned(pod, "the loopback's result, or another pod's")
	result(t, folder, "pods-of-the-node", longID, "eth0")
	n.eventually("the pod to be pinned, of which the store says nothing", func() bool { return strings.Contains(pod.permanent(), gateway4) })
	pod.takeAs(longID)
	n.eventually("the verdict", func() bool { return n.recordOf(longID).Timing.Verdict == record.InTime })
	if got := n.recordOf(longID).Timing.ResultToPinMs; got <= 0 {
		t.Errorf("%v ms from the result to the pin", got)
	}
}

func TestAResultMayComeBeforeTheOwnerIsKnown(t *testing.T) {
	n, folder := cached(t, oneNetwork)
	pod := n.newPodAs(longID, "runsc", typeGVisor).cni()
	result(t, folder, "pods", longID, "eth0")
	n.eventually("the result to be heard of", func() bool {
		n.engine.results.mu.Lock()
		defer n.engine.results.mu.Unlock()
		_, ok := n.engine.results.made[longID]
		return ok
	})
	pod.listed()
	n.eventually("the pod to be pinned", func() bool { return strings.Contains(pod.permanent(), gateway4) })
}

// Where a sandbox may have several networks the first one's result is not the end of CNI's work.
func TestAResultIsNotEnoughWhereItMayNotBeTheOnlyOne(t *testing.T) {
	for name, one := range map[string]func(context.Context) (bool, error){
		"several networks": func(context.Context) (bool, error) { return false, nil },
		"nobody knows":     func(context.Context) (bool, error) { return true, errDown },
	} {
		t.Run(name, func(t *testing.T) {
			n, folder := cached(t, one)
			pod := n.newPodAs(longID, "runsc", typeGVisor).listed().cni()
			n.eventually("the pod to be known", func() bool { return n.recordOf(longID).ID != "" })
			result(t, folder, "pods", longID, "eth0")
			n.neverPinned(pod, "one of several results")
			pod.ready()
			n.eventually("the pod to be pinned", func() bool { return strings.Contains(pod.permanent(), gateway4) })
		})
	}
}

// An entry that CNI has made is its own, also where the result is what tells the end.
func TestAnEntryFromBeforeTheResultIsNotOurs(t *testing.T) {
	n, folder := cached(t, oneNetwork)
	pod := n.newPodAs(longID, "runsc", typeGVisor).listed().cni()
	n.eventually("the pod to be known", func() bool { return n.recordOf(longID).ID != "" })
	pod.IP("neigh add " + gateway4 + " lladdr 02:00:00:00:00:99 nud permanent dev eth0")
	result(t, folder, "pods", longID, "eth0")
	n.eventually("the other gateway to be pinned", func() bool { return strings.Contains(pod.permanent(), gateway6) })
	if !strings.Contains(pod.permanent(), gateway4+" dev eth0 lladdr 02:00:00:00:00:99") {
		t.Errorf("CNI's entry is gone:\n%s", pod.permanent())
	}
}

// An address that CNI takes away itself is no sign of the runtime, however seldom the store was asked.
func TestWhatHappenedBeforeTheResultWasCNI(t *testing.T) {
	n, folder := cached(t, oneNetwork)
	n.engine.results.leads.Store(true)
	pod := n.newPodAs(longID, "runsc", typeGVisor).listed().cni()
	n.eventually("the pod to be known", func() bool { return n.store.asked() > 0 })
	pod.IP("address add 10.88.0.3/24 dev eth0", "address del 10.88.0.3/24 dev eth0")
	pause(t, 20*time.Millisecond) // the time of a file may be a tick old
	result(t, folder, "pods", longID, "eth0")
	n.eventually("the pod to be pinned", func() bool { return strings.Contains(pod.permanent(), gateway4) })
	pod.takeAs(longID)
	n.eventually("the verdict", func() bool { return n.recordOf(longID).Timing.Verdict != record.Pending })
	if got := n.recordOf(longID).Timing.Verdict; got != record.InTime {
		t.Errorf("verdict %s", got)
	}
}

func TestResultsAreHeardOfInAnyOrder(t *testing.T) {
	r := newResults()
	path := func(i int) (id, file string) {
		id = fmt.Sprintf("%064x", i)
		return id, "/results/pods-" + id + "-eth0"
	}
	var all sync.WaitGroup
	for i := range 100 {
		id, file := path(i)
		all.Go(func() { r.take(netns.Event{Path: file, Op: netns.Added}) })
		all.Go(func() {
			c, forget := r.of(id)
			defer forget()
			if got := <-c; got != file {
				t.Errorf("got %q, want %q", got, file)
			}
		})
	}
	all.Wait()
	if len(r.made) != 0 || len(r.waits) != 0 {
		t.Errorf("%d results and %d waiting are left", len(r.made), len(r.waits))
	}
	id, file := path(1)
	_, first := r.of(id)
	second, _ := r.of(id)
	first()
	r.take(netns.Event{Path: file, Op: netns.Added})
	if got := <-second; got != file {
		t.Errorf("who comes second got %q", got)
	}
}

func TestResultsOfNobodyAreNotKept(t *testing.T) {
	r := newResults()
	name := func(i int) string { return fmt.Sprintf("/results/pods-%064x-eth0", i) }
	for i := range 10 {
		r.take(netns.Event{Path: name(i), Op: netns.Added})
	}
	r.take(netns.Event{Path: name(0), Op: netns.Removed})
	if len(r.made) != 9 {
		t.Errorf("%d are kept", len(r.made))
	}
	for id, m := range r.made {
		m.at = m.at.Add(-2 * resultFor)
		r.made[id] = m
	}
	r.swept = time.Time{}
	r.take(netns.Event{Path: name(11), Op: netns.Added})
	if len(r.made) != 1 {
		t.Errorf("%d are kept after a while", len(r.made))
	}
	for _, other := range []string{"/results/x", "/results/pods-" + longID + "-lo", "/results/pods-" + podID + "-eth0"} {
		r.take(netns.Event{Path: other, Op: netns.Added})
	}
	if len(r.made) != 1 {
		t.Errorf("names that say nothing of a sandbox are kept: %v", r.made)
	}
}

// pause lets time go by of which nothing tells.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Fatal(ctx.Err())
	}
}

// neverPinned looks for a while whether something that should not lead to a pin does.
func (n *node) neverPinned(pod *pod, what string) {
	n.t.Helper()
	asked := n.store.asked()
	n.eventually("the store to be asked some more", func() bool { return n.store.asked() > asked+3 })
	if got := pod.permanent(); got != "" {
		n.t.Fatalf("%s was enough to pin:\n%s", what, got)
	}
}

// takeAs is take for a sandbox of another id.
func (p *pod) takeAs(id string) {
	p.node.t.Helper()
	p.node.eventually("the margin to be one that counts", func() bool {
		timing := p.node.recordOf(id).Timing
		look := time.Duration(timing.ResultToPinMs * float64(time.Millisecond))
		return !timing.PinnedAt.IsZero() && time.Since(timing.PinnedAt) > 2*(minMargin+look)
	})
	p.IP("address del 10.88.0.2/24 dev eth0", "address del fd00:88::2/64 dev eth0")
}
