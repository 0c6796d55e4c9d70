// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// many makes running pods on one bridge that holds their gateway.
func (n *node) many(count int) (pods []*pod) {
	n.t.Helper()
	n.bridge()
	var lines, undo []string
	for i := range count {
		p := n.newPodAs(fmt.Sprintf("pod%d", i), "", typeRunc)
		p.rec.Annotations = map[string]string{selection.PinAnnotation: "true"}
		pods = append(pods, p)
		lines = append(lines, fmt.Sprintf("link add port%d type veth peer name eth0 netns %s", i, p.Ref()),
			fmt.Sprintf("link set port%d up master br0", i))
		undo = append(undo, fmt.Sprintf("link del port%d", i))
	}
	n.outside.IP(lines...) // one process for all of them
	n.t.Cleanup(func() { n.outside.IP(undo...) })
	for i, p := range pods {
		p.IP("link set eth0 up", fmt.Sprintf("address add 10.88.0.%d/24 dev eth0", i+2), "route add default via "+gateway4)
		p.listed().ready()
	}
	n.eventually("all pods to be pinned", func() bool { return n.log.count(record.KindPinned) == count })
	for _, p := range pods {
		n.engine.ContainerCreating(n.t.Context(), p.rec.ID)
	}
	for _, p := range pods {
		n.settled(p.rec.ID)
	}
	return pods
}

func (n *node) pinned(want bool) (count int) {
	for _, rec := range n.engine.Status().Sandboxes {
		if (len(rec.Neighbors) == 1) == want {
			count++
		}
	}
	return count
}

func TestTwoHundredSandboxesFollowTheirBridge(t *testing.T) {
	const count = 200
	n := newNode(t)
	n.many(count)
	began := time.Now()
	n.outside.IP("address del " + gateway4 + "/24 dev br0")
	n.eventually("all pins to be withdrawn", func() bool { return n.pinned(false) == count })
	gone := time.Now()
	n.outside.IP("address add " + gateway4 + "/24 dev br0")
	n.eventually("all pins to be back", func() bool { return n.pinned(true) == count })
	t.Logf("%d pins withdrawn in %s, and back in %s", count, gone.Sub(began), time.Since(gone))
	// Nothing of the guard's stays in a namespace, and it keeps no descriptor for
	// any: the engine has its own few, whatever the number of sandboxes.
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	namespaces := 0
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && strings.HasPrefix(target, "net:") {
			namespaces++
		}
	}
	if limit := count + 2*guard.Workers; namespaces > limit { // the tests hold one each
		t.Errorf("%d descriptors of namespaces, want at most %d", namespaces, limit)
	}
}

func TestNamespaceEndsWithItsSandbox(t *testing.T) {
	n := newNode(t)
	p := n.running()
	n.outside.IP("link set veth0 address " + otherMAC)
	n.eventually("the pins to follow", func() bool { return strings.Count(p.permanent(), otherMAC) == 2 })
	n.settled(podID)
	p.remove()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	n.eventually("the namespace's link to be gone", func() bool {
		_, err := n.outside.TryIP("link show veth0")
		return err != nil
	})
}

// compared counts the comparisons from now on, of a node with one sandbox.
func (n *node) compared() (count func() int) {
	all := func() (sum int) {
		for _, looks := range n.engine.Status().Looks {
			sum += int(looks)
		}
		return sum
	}
	before := all()
	return func() int { return all() - before }
}

// With ptp and kindnet every host end holds the gateway's address: another pod's start is none of a routed pod's business.
func TestAnotherPodsGatewayConcernsNobodyElse(t *testing.T) {
	n := newNode(t)
	n.running()
	looked := n.compared()
	n.outside.IP("link add other type veth peer name other-end", "link set other up")
	t.Cleanup(func() { n.outside.IP("link del other") })
	for range 3 {
		n.outside.IP("address add "+gateway4+"/32 dev other", "address del "+gateway4+"/32 dev other")
	}
	// What does concern it comes after those, and by the same way.
	n.outside.IP("link set veth0 address 02:00:00:00:12:34")
	n.eventually("the pod to be looked at for its own link", func() bool { return looked() > 0 })
	n.settled(podID)
	if looked() > 2 { // the second is for what the first one wrote
		t.Errorf("looked at %d times", looked())
	}
}

// during has something done again and again while the rest of the test runs.
func (n *node) during(again func(context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			again(ctx)
		}
	}()
	n.t.Cleanup(func() {
		stop()
		<-done
	})
}

// A pod that never rests costs a bounded share.
func TestPodThatRemovesItsPinWithoutEndIsComparedLessAndLessOften(t *testing.T) {
	n := newNode(t)
	p := n.running()
	table, err := neighbor.Open(p.NS.NS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
	pins := n.record().Neighbors
	count := n.compared()
	began := time.Now()
	n.during(func(ctx context.Context) { _, _ = table.Release(ctx, pins) })
	// What is on credit comes quickly, and then there is one comparison now and then.
	n.eventually("the credit to be used up", func() bool {
		s, _ := n.engine.find(podID)
		state, _ := n.engine.guard.State(s.ward)
		return state.Postponed
	})
	quick, took := count(), time.Since(began)
	used := time.Now()
	<-time.After(2 * time.Second)
	slowly, rest := count()-quick, time.Since(used)
	// Each costs 200 µs at least, of a hundredth of the time, and how much more on a slow machine nobody knows: all of the credit may be two.
	if limit := int(rest/100/(200*time.Microsecond)) + 2; slowly > limit || quick < 2 {
		t.Errorf("compared %d times in %s and then %d times in %s, want at most %d", quick, took, slowly, rest, limit)
	}
	t.Logf("compared %d times in %s and then %d times in %s", quick, took, slowly, rest)
}

// isRepairedSoon removes a pod's pin twenty times. One that has to wait for another pod waits each time, and a machine
// that stands still now and then makes few of them long.
func (p *pod) isRepairedSoon() {
	p.node.t.Helper()
	var took []time.Duration
	for range 20 {
		p.IP("neigh del " + gateway4 + " dev eth0")
		removed := time.Now()
		p.node.eventually("the other's pin to be back", func() bool { return strings.Contains(p.permanent(), gateway4+" ") })
		took = append(took, time.Since(removed))
	}
	slices.Sort(took)
	if median := took[len(took)/2]; median > 2*time.Second {
		p.node.t.Errorf("half of the repairs took %s and more: %s", median, took)
	}
}

// And it costs others nothing but what the kernel makes them wait.
func TestPodThatFlapsItsLinkDelaysNobody(t *testing.T) {
	n := newNode(t)
	pods := n.many(2)
	hostile, other := pods[0], pods[1]
	n.during(func(context.Context) { _, _ = hostile.TryIP("link set eth0 down", "link set eth0 up") })
	other.isRepairedSoon()
}

// script is a watcher of the host that hears what a test says.
type script struct {
	events chan []neighbor.HostEvent
	fails  chan error
	once   sync.Once
	closed chan struct{}
	deaf   error // to a choice
}

func newScript() *script {
	return &script{events: make(chan []neighbor.HostEvent), fails: make(chan error), closed: make(chan struct{})}
}

func (s *script) Receive() ([]neighbor.HostEvent, error) {
	select {
	case events := <-s.events:
		return events, nil
	case err := <-s.fails:
		return nil, err
	case <-s.closed:
		return nil, os.ErrClosed
	}
}

func (s *script) Heard() uint64 { return 0 }

func (s *script) HearEntries([]netip.Addr) error { return s.deaf }

func (s *script) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func TestEverythingIsComparedAfterLostEventsAndAfterAGap(t *testing.T) {
	watchers := make(chan *script, 1)
	watchers <- newScript()
	var current *script
	var mu sync.Mutex
	n := newNodeWith(t, func(n *node) {
		n.watch = func() (guard.HostWatcher, error) {
			mu.Lock()
			defer mu.Unlock()
			select {
			case current = <-watchers:
				return current, nil
			default:
				return nil, errDown
			}
		}
	})
	p := n.running()
	gone := func() { p.IP("neigh del " + gateway4 + " dev eth0") }
	back := func(after string) {
		t.Helper()
		n.eventually("the pin to be back after "+after, func() bool { return strings.Contains(p.permanent(), gateway4+" ") })
		n.settled(podID)
	}
	gone()
	mu.Lock()
	watcher := current
	mu.Unlock()
	watcher.events <- []neighbor.HostEvent{{Event: neighbor.Event{Kind: neighbor.Overrun}, NSID: neighbor.HostNSID}}
	back("lost events")

	gone()
	watcher.fails <- unix.EIO
	n.eventually("the gap to be told", func() bool { return n.log.count(record.KindHost) == 2 })
	if err := n.log.last(record.KindHost).Err; !errors.Is(err, unix.EIO) {
		t.Errorf("told %v", err)
	}
	watchers <- newScript()
	back("a gap")
	n.eventually("the end of the gap to be told", func() bool { return n.log.count(record.KindHost) == 3 })
	if err := n.log.last(record.KindHost).Err; err != nil {
		t.Errorf("told %v", err)
	}
}

// BenchmarkEventToRepair measures from the command that removes a pin to the
// moment at which the kernel has it again, as its own events tell.
func BenchmarkEventToRepair(b *testing.B) {
	n := newNodeWith(b, func(*node) {})
	p := n.running()
	watch, err := neighbor.Watch(p.NS.NS)
	if err != nil {
		b.Fatal(err)
	}
	defer watch.Close()
	table, err := neighbor.Open(p.NS.NS)
	if err != nil {
		b.Fatal(err)
	}
	defer table.Close()
	pin := n.record().Neighbors[:1]
	s, _ := n.engine.find(podID)
	var took []float64
	for b.Loop() {
		<-n.engine.guard.Check(guard.Slow, s.ward) // forgives what it cost: what is measured is no storm
		n.settled(podID)
		began := time.Now()
		if _, err := table.Release(b.Context(), pin); err != nil {
			b.Fatal(err)
		}
		for back := false; !back; {
			events, err := watch.Receive()
			if err != nil {
				b.Fatal(err)
			}
			back = slices.ContainsFunc(events, func(ev neighbor.Event) bool {
				return ev.Kind == neighbor.NeighborChanged && ev.Permanent() && ev.Dst == pin[0].Dst
			})
		}
		took = append(took, time.Since(began).Seconds()*1000)
		b.StopTimer()
		n.settled(podID)
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2], "p50-ms")
	b.ReportMetric(took[len(took)*99/100], "p99-ms")
	b.ReportMetric(took[len(took)-1], "max-ms")
}

// A pod that is not in care can give a link of its own any number, and with it the
// one that another pod's other end has on the host.
func TestStrangerWithTheRightLinkNumberCostsOthersLittle(t *testing.T) {
	n := newNode(t)
	p := n.running()
	s, _ := n.engine.find(podID)
	state, _ := n.engine.guard.State(s.ward)
	links := state.Basis.Links
	if len(links) == 0 {
		t.Fatal("the pod rests on no link of the host")
	}
	count := n.compared()
	var storm []neighbor.HostEvent
	for range 1000 {
		storm = append(storm, neighbor.HostEvent{Event: neighbor.Event{Kind: neighbor.LinkChanged, Index: links[0]}, NSID: 4711})
	}
	began := time.Now()
	for range 100 {
		n.engine.guard.Heard(storm)
		n.settled(podID)
	}
	// What is on credit, 50 ms each for the stranger and the pod, and what the time that has passed gives, at 5 ms for an event.
	if got, limit := count(), int((100*time.Millisecond+time.Since(began)/100)/(5*time.Millisecond)); got == 0 || got > limit {
		t.Errorf("compared %d times, want at most %d", got, limit)
	}
	p.IP("neigh del " + gateway4 + " dev eth0")
	n.eventually("the pin to be back", func() bool { return strings.Contains(p.permanent(), gateway4+" ") })
}

func TestFloodOfEventsInOnePodDelaysNobody(t *testing.T) {
	n := newNode(t)
	pods := n.many(2)
	hostile, other := pods[0], pods[1]
	var lines []string
	for i := range 2000 {
		lines = append(lines, fmt.Sprintf("neigh replace 10.88.%d.%d dev eth0 lladdr %s nud permanent", 1+i/250, 1+i%250, foreignMAC))
	}
	for i := range 2000 {
		lines = append(lines, fmt.Sprintf("neigh del 10.88.%d.%d dev eth0", 1+i/250, 1+i%250))
	}
	n.during(func(context.Context) { _, _ = hostile.TryIP(lines...) })
	other.isRepairedSoon()
}
