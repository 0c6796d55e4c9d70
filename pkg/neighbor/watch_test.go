// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/internal/nstest"
)

func TestWatchReportsWhatHappens(t *testing.T) {
	host, pod := nstest.New(t), nstest.New(t)
	w := watch(t, pod)
	pod.Veth("eth0", host, "lxc0")
	w.await("LinkChanged eth0 up")
	pod.IP("addr add 10.0.0.2/24 dev eth0", "addr add fd00::2/64 dev eth0 nodad")
	w.await("AddrAdded eth0 inet 10.0.0.2 global", "AddrAdded eth0 inet6 fd00::2 global")
	pod.IP("route add default via 10.0.0.1", "route add default via fd00::1")
	w.await("RouteChanged eth0 inet", "RouteChanged eth0 inet6")
	pod.IP("neigh add 10.0.0.1 lladdr "+otherMAC+" dev eth0 nud stale",
		"neigh replace 10.0.0.1 lladdr "+hostMAC+" dev eth0 nud permanent protocol 177",
		"neigh del 10.0.0.1 dev eth0")
	w.await("NeighborChanged eth0 inet 10.0.0.1 "+otherMAC+" STALE",
		"NeighborChanged eth0 inet 10.0.0.1 "+hostMAC+" PERMANENT ours",
		"NeighborRemoved eth0 inet 10.0.0.1 FAILED ours")
	pod.IP("link set eth0 down", "link set eth0 name eth7")
	w.await("LinkChanged eth0 down", "LinkChanged eth7 down")
	pod.IP("link set eth7 netns " + host.Ref())
	w.await("LinkRemoved eth7")
}

// What gVisor does: it removes every address, with which the kernel drops the
// IPv4 entries of the link. That order tells a hand-over from a flush.
func TestHandOverShowsTheAddressFirst(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	tb := openTable(t, pod.NS)
	pin(t, tb, resolve(t, tb).Neighbors)
	w := watch(t, pod)
	pod.IP("addr del 10.0.0.2/24 dev eth0", "addr del fd00::2/64 dev eth0")
	w.await("AddrRemoved eth0 inet 10.0.0.2 global", "NeighborRemoved eth0 inet 10.0.0.1 "+hostMAC+" PERMANENT ours",
		"AddrRemoved eth0 inet6 fd00::2 global")
	expectEntries(t, pod, "fd00::1 dev eth0 lladdr "+hostMAC+" PERMANENT proto 177")
}

// What Cilium's CNI does last: it sets eth0's address, even to the same value.
func TestOwnAddressSetFlushesThePinsAndIsSeen(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	tb := openTable(t, pod.NS)
	owned := resolve(t, tb).Neighbors
	pin(t, tb, owned)
	w := watch(t, pod)
	pod.IP("link set eth0 address " + pod.MAC("eth0"))
	w.await("NeighborRemoved eth0 inet 10.0.0.1 " + hostMAC + " PERMANENT ours")
	w.await("NeighborRemoved eth0 inet6 fd00::1 " + hostMAC + " PERMANENT ours")
	expectEntries(t, pod)
	pin(t, tb, resolve(t, tb, owned...).Neighbors)
	w.await("NeighborChanged eth0 inet 10.0.0.1 "+hostMAC+" PERMANENT ours",
		"NeighborChanged eth0 inet6 fd00::1 "+hostMAC+" PERMANENT ours")
}

// Each of these takes a pin away or weakens it, and none may go unseen.
func TestEveryLossIsSeen(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(pod *nstest.NS)
		want   string
	}{
		{"link down and up", func(pod *nstest.NS) { pod.IP("link set eth0 down", "link set eth0 up") }, "NeighborRemoved eth0 inet 10.0.0.1"},
		{"arp off", func(pod *nstest.NS) { pod.IP("link set eth0 arp off") }, "NeighborRemoved eth0 inet 10.0.0.1"},
		{"IPv6 disabled", func(pod *nstest.NS) { pod.Sysctl("net/ipv6/conf/eth0/disable_ipv6", "1") }, "NeighborRemoved eth0 inet6 fd00::1"},
		{"small MTU", func(pod *nstest.NS) { pod.IP("link set eth0 mtu 1000") }, "NeighborRemoved eth0 inet6 fd00::1"},
		// Seen after three seconds only, when the question has failed.
		{"probed with replace", func(pod *nstest.NS) { pod.IP("neigh replace 10.0.0.1 dev eth0 use nud none") }, "NeighborChanged eth0 inet 10.0.0.1"},
		{"removed", func(pod *nstest.NS) { pod.IP("neigh del fd00::1 dev eth0") }, "NeighborRemoved eth0 inet6 fd00::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, pod := nstest.DualStackPair(t)
			tb := openTable(t, pod.NS)
			owned := resolve(t, tb).Neighbors
			pin(t, tb, owned)
			w := watch(t, pod)
			c.change(pod)
			w.await(c.want)
			diffs, err := tb.Verify(t.Context(), owned)
			if err != nil || len(diffs) == 0 {
				t.Errorf("differences %v, %v", diffs, err)
			}
		})
	}
}

func TestWatchSaysWhenItLostSomething(t *testing.T) {
	_, pod := nstest.Pair(t)
	w := watch(t, pod)
	// More than the buffer holds, while nobody receives.
	batch := make([]string, 0, 4000)
	for i := range cap(batch) {
		batch = append(batch, fmt.Sprintf("neigh replace 10.%d.%d.1 lladdr %s dev eth0 nud permanent", i/250, i%250, otherMAC))
	}
	pod.IP(batch...)
	w.await("Overrun")
	// And it goes on, once there is room again.
	nstest.Eventually(t, "an event after the loss", func() bool {
		pod.IP("neigh replace 192.0.2.1 lladdr "+otherMAC+" dev eth0 nud permanent", "neigh del 192.0.2.1 dev eth0")
		for {
			select {
			case line := <-w.lines:
				if strings.HasPrefix(line, "NeighborChanged eth0 inet 192.0.2.1") {
					return true
				}
			default:
				return false
			}
		}
	})
}

// closes closes twice, and expects that to end a Receive that waits.
func closes[E any](t *testing.T, w interface {
	Receive() ([]E, error)
	Close() error
},
) {
	t.Helper()
	ended := make(chan error)
	go func() {
		for {
			if _, err := w.Receive(); err != nil {
				ended <- err
				return
			}
		}
	}()
	for range 2 {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("error %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("Receive still waits")
	}
}

func TestCloseEndsReceive(t *testing.T) {
	w, err := Watch(nstest.New(t).NS)
	if err != nil {
		t.Fatal(err)
	}
	closes(t, w)
}

// watcher receives in a goroutine of its own, so that a test can give up.
type watcher struct {
	t       *testing.T
	w       *Watcher
	receive func(lines chan<- string) // until there is an error
	lines   chan string
}

// watch listens from now on; receiving begins with the first await, so that a
// test may let the buffer fill.
func watch(t *testing.T, ns *nstest.NS) *watcher {
	t.Helper()
	w, err := Watch(ns.NS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return &watcher{t: t, w: w, receive: func(lines chan<- string) { receiveLines(t, w, lines) }}
}

func receiveLines(t *testing.T, w *Watcher, lines chan<- string) {
	for {
		events, err := w.Receive()
		if err != nil {
			return
		}
		for _, ev := range events {
			select {
			case lines <- eventLine(ev):
			case <-t.Context().Done():
				return
			}
		}
	}
}

// until passes over events until ok accepts one.
func (w *watcher) until(what string, ok func(line string) bool) {
	w.t.Helper()
	if w.lines == nil {
		w.lines = make(chan string, 1<<14)
		go func() {
			defer close(w.lines)
			w.receive(w.lines)
		}()
	}
	var passed []string
	timeout := time.After(time.Minute)
	for {
		select {
		case line, open := <-w.lines:
			if !open {
				w.t.Fatalf("the watching ended before: %s", what)
			}
			if ok(line) {
				return
			}
			passed = append(passed, line)
		case <-timeout:
			w.t.Fatalf("no event %q; there were:\n%s", what, strings.Join(passed[max(0, len(passed)-30):], "\n"))
		}
	}
}

// await waits for events that begin like this, in this order, with any others
// in between.
func (w *watcher) await(want ...string) {
	w.t.Helper()
	for _, prefix := range want {
		w.until(prefix, func(line string) bool { return strings.HasPrefix(line+" ", prefix+" ") })
	}
}

func eventLine(ev Event) string {
	words := []string{ev.Kind.String(), ev.Dev, ev.Family}
	if ev.Dst.IsValid() {
		words = append(words, ev.Dst.String())
	}
	switch ev.Kind {
	case LinkChanged:
		words = append(words[:2], map[bool]string{true: "up", false: "down"}[ev.Up])
	case NeighborChanged, NeighborRemoved:
		words = append(words, ev.LLAddr.String(), strings.Join(ev.State, ","))
	}
	if ev.Global {
		words = append(words, "global")
	}
	if ev.Ours {
		words = append(words, "ours")
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}
