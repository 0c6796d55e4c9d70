// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// hostWatcher receives in a goroutine of its own, so that a test can give up.
type hostWatcher struct {
	watcher
	w *HostWatcher
}

// watchAll listens with ns in the place of this process's namespace. Receiving
// begins with the first await, so that a test may let the buffer fill.
func watchAll(t *testing.T, ns *nstest.NS) *hostWatcher {
	t.Helper()
	w, err := watchHost(ns.NS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	h := &hostWatcher{w: w}
	h.watcher = watcher{t: t, receive: h.receive}
	return h
}

func (h *hostWatcher) receive(lines chan<- string) {
	for {
		events, err := h.w.Receive()
		if err != nil {
			return
		}
		for _, ev := range events {
			select {
			case lines <- hostEventLine(ev):
			case <-h.t.Context().Done():
				return
			}
		}
	}
}

// mark makes an event of its own and returns what was heard until then.
func (h *hostWatcher) mark(host *nstest.NS, count *int) (lines []string) {
	h.t.Helper()
	*count++
	address := fmt.Sprintf("192.0.2.%d", *count)
	host.IP("addr add " + address + "/32 dev lo")
	h.until("mark "+address, func(line string) bool {
		lines = append(lines, line)
		return line == "-1: AddrAdded inet "+address+" global"
	})
	return lines
}

func hostEventLine(ev HostEvent) string {
	line := fmt.Sprintf("%d: %s", ev.NSID, eventLine(ev.Event))
	if ev.Kind == LinkChanged {
		line += " " + ev.LLAddr.String()
	}
	return line
}

// number is the number that ns has in host's eyes.
func number(t testing.TB, host, ns *nstest.NS) int32 {
	t.Helper()
	id, err := nsidFrom(t.Context(), host.NS, ns.NS)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Every way in which a CNI plugin makes a pod's link, and what happens to it
// afterwards, as one socket in the host's namespace hears it.
func TestHostWatchHearsThePodsOfTheHost(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(host, pod *nstest.NS)
	}{
		{"a link moved in", func(host, pod *nstest.NS) {
			host.IP("link add lxc0 type veth peer name eth0", "link set eth0 netns "+pod.Ref(), "link set lxc0 up")
			pod.IP("link set eth0 up")
		}},
		{"a link made in the pod", func(host, pod *nstest.NS) { pod.Veth("eth0", host, "lxc0") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, pod := nstest.New(t), nstest.New(t)
			bystander := nstest.New(t) // so that the pod's number is not the first
			number(t, host, bystander)
			w := watchAll(t, host)
			c.make(host, pod)
			id := number(t, host, pod)
			in := fmt.Sprintf("%d: ", id)
			w.await("-1: LinkChanged lxc0 up")
			pod.IP("addr add 10.0.0.2/24 dev eth0", "addr add fd00::2/64 dev eth0 nodad")
			w.await(in+"AddrAdded inet 10.0.0.2 global", in+"AddrAdded inet6 fd00::2 global")
			pod.IP("neigh add 10.0.0.1 lladdr "+hostMAC+" dev eth0 nud permanent protocol 177", "neigh del 10.0.0.1 dev eth0")
			w.await(in+"NeighborChanged inet 10.0.0.1 "+hostMAC+" PERMANENT ours", in+"NeighborRemoved inet 10.0.0.1")
			host.IP("link set lxc0 address " + hostMAC2)
			w.await("-1: LinkChanged lxc0 up " + hostMAC2)
			pod.IP("link set eth0 down")
			w.await(in + "LinkChanged eth0 down")
			host.IP("addr add 10.0.0.1/24 dev lxc0", "addr del 10.0.0.1/24 dev lxc0", "link del lxc0")
			w.await("-1: AddrAdded inet 10.0.0.1 global", "-1: AddrRemoved inet 10.0.0.1 global", "-1: LinkRemoved lxc0")
			if id == 0 {
				t.Error("the pod has the first number, which proves little")
			}
		})
	}
}

// A namespace with nothing but its loopback is silent until it gets a number.
func TestNSIDMakesAnIsolatedNamespaceHeard(t *testing.T) {
	host, pod := nstest.New(t), nstest.New(t)
	w := watchAll(t, host)
	pod.IP("addr add 192.0.2.1/32 dev lo") // the control: this is not heard
	id := number(t, host, pod)
	if again := number(t, host, pod); again != id || id < 0 {
		t.Errorf("number %d, then %d", id, again)
	}
	if own := number(t, host, host); own != HostNSID {
		t.Errorf("the host is number %d to itself", own)
	}
	pod.IP("addr add 192.0.2.2/32 dev lo")
	w.until("the second address", func(line string) bool {
		if strings.Contains(line, "192.0.2.1") {
			t.Errorf("heard without a number: %s", line)
		}
		return line == fmt.Sprintf("%d: AddrAdded inet 192.0.2.2 global", id)
	})
}

// A number ends with its namespace. The numbers that others have for each other
// say nothing here.
func TestTheEndOfANamespaceIsToldOnce(t *testing.T) {
	host, pod := nstest.New(t), nstest.New(t)
	ended := nstest.New(t)
	number(t, host, pod)
	inside := number(t, pod, ended) // the pod's number for it, in the pod's own messages
	gone := number(t, host, ended)
	if inside == gone {
		t.Fatal("both numbers are the same")
	}
	w := watchAll(t, host)
	if err := ended.Close(); err != nil {
		t.Fatal(err)
	}
	w.await(fmt.Sprintf("%d: NamespaceGone", gone))
	host.IP("addr add 192.0.2.9/32 dev lo")
	w.until("the last address", func(line string) bool {
		if strings.Contains(line, "NamespaceGone") {
			t.Errorf("told again: %s", line)
		}
		return strings.Contains(line, "192.0.2.9")
	})
	next := nstest.New(t)
	if id := number(t, host, next); id != gone {
		t.Logf("the next number is %d, not the free %d", id, gone)
	}
}

// What a pin rests on beside the other end: the bridge's addresses, and who is a
// port of it.
func TestHostWatchHearsBridges(t *testing.T) {
	host, pod := bridged(t)
	host.IP("addr add 10.0.0.1/24 dev cni0")
	w := watchAll(t, host)
	host.IP("addr del 10.0.0.1/24 dev cni0")
	w.await("-1: AddrRemoved inet 10.0.0.1 global")
	count := 0
	lxc := func(do func()) (heard int) {
		t.Helper()
		w.mark(host, &count)
		do()
		for _, line := range w.mark(host, &count) {
			if strings.HasPrefix(line, "-1: LinkRemoved") {
				t.Errorf("a port that left is taken for a link that is gone: %s", line)
			}
			if strings.HasPrefix(line, "-1: LinkChanged lxc0 up "+host.MAC("lxc0")) {
				heard++
			}
		}
		return heard
	}
	if lxc(func() { host.IP("link set lxc0 nomaster") }) == 0 || lxc(func() { host.IP("link set lxc0 master cni0") }) == 0 {
		t.Error("a port that leaves or comes is not heard")
	}
	// A port's setting is told by the bridge alone.
	if lxc(func() {
		if out, err := host.Run("bridge", "link", "set", "dev", "lxc0", "hairpin", "on"); err != nil {
			t.Error(out, err)
		}
	}) == 0 {
		t.Error("a port's setting is not heard")
	}
	pod.IP("addr add 10.0.0.7/24 dev eth0")
	w.await(fmt.Sprintf("%d: AddrAdded inet 10.0.0.7 global", number(t, host, pod)))
}

// Somebody may give a namespace a number for itself; it stays the host's.
func TestOwnNumberIsTheHosts(t *testing.T) {
	host := nstest.New(t)
	tb := openTable(t, host.NS)
	own, err := tb.conn.AssignNSID(t.Context(), host.FD())
	if err != nil || own < 0 {
		t.Fatal(own, err)
	}
	w := watchAll(t, host)
	host.IP("addr add 192.0.2.9/32 dev lo")
	w.await("-1: AddrAdded inet 192.0.2.9 global")
	// The kernel at hand leaves the number away; older ones send it.
	body := nl.NewIfInfomsg(unix.AF_UNSPEC)
	body.Index = 1
	ev, ok := w.w.decode(rtnetlink.Notice{NSID: own, Kind: unix.RTM_NEWLINK, Body: body.Serialize()})
	other, _ := w.w.decode(rtnetlink.Notice{NSID: own + 1, Kind: unix.RTM_NEWLINK, Body: body.Serialize()})
	if !ok || ev.NSID != HostNSID || other.NSID != own+1 {
		t.Errorf("%+v, %+v", ev, other)
	}
}

// More than the buffer holds, while nobody receives. What the kernel tells after
// the loss must reach us: it drops everything until the socket has been read
// empty, so that a reader who trusts the first word of a loss misses what comes
// next.
func TestHostWatchSaysWhenItLostSomething(t *testing.T) {
	host, pod := nstest.Pair(t)
	w := watchAll(t, host)
	batch := make([]string, 0, 40_000)
	for i := range cap(batch) {
		batch = append(batch, fmt.Sprintf("neigh replace 10.%d.%d.1 lladdr %s dev eth0 nud permanent", i/250, i%250, otherMAC))
	}
	pod.IP(batch...)
	events, err := w.w.Receive()
	if err != nil || len(events) != 1 || events[0].Kind != Overrun || events[0].NSID != HostNSID {
		t.Fatalf("%d events, first %+v, %v", len(events), events[:1], err)
	}
	// Nothing in between: the first event after an Overrun is a new one.
	pod.IP("neigh replace 192.0.2.1 lladdr " + otherMAC + " dev eth0 nud permanent")
	w.until("the event after the loss", func(line string) bool {
		if line != fmt.Sprintf("%d: NeighborChanged inet 192.0.2.1 %s PERMANENT", number(t, host, pod), otherMAC) {
			t.Errorf("event %q", line)
		}
		return true
	})
}

// 20,000 changes at once, as a busy node or a hostile pod makes them, fit.
func TestHostWatchHolds20000Changes(t *testing.T) {
	host, pod := nstest.Pair(t)
	w := watchAll(t, host)
	const count = 20_000
	batch := make([]string, 0, count)
	for i := range count {
		batch = append(batch, fmt.Sprintf("neigh replace 10.%d.%d.1 lladdr %s dev eth0 nud permanent", i/250, i%250, otherMAC))
	}
	pod.IP(batch...)
	heard := 0
	w.until("the last of them", func(line string) bool {
		if strings.Contains(line, "Overrun") {
			t.Fatalf("lost after %d", heard)
		}
		if strings.Contains(line, "NeighborChanged") {
			heard++
		}
		return heard == count
	})
}

func TestHostWatchNeedsNetBroadcast(t *testing.T) {
	host := nstest.New(t)
	err := host.Do(func() error {
		return nstest.Without(unix.CAP_NET_BROADCAST, func() error {
			l, err := rtnetlink.ListenEverywhere(hostBuffer, hostGroups()...)
			if err == nil {
				l.Close()
			}
			return err
		})
	})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "CAP_NET_BROADCAST") {
		t.Errorf("error %v", err)
	}
}

// This process's own namespace, as the daemon uses it; nothing is changed there.
func TestWatchHostOfThisProcess(t *testing.T) {
	w, err := WatchHost()
	if err != nil {
		t.Fatal(err)
	}
	closes(t, w)
	if _, err := w.Receive(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Receive after Close: %v", err)
	}
}

// Whole messages, as the kernel sends them, from here and from elsewhere.
func FuzzHostEvent(f *testing.F) {
	for _, n := range heard(f) {
		f.Add(n.Kind, n.NSID, n.Body)
	}
	f.Add(uint16(unix.RTM_DELNSID), int32(HostNSID), append(make([]byte, 4), nl.NewRtAttr(netlink.NETNSA_NSID, nl.Uint32Attr(4)).Serialize()...))
	f.Fuzz(func(t *testing.T, kind uint16, nsid int32, body []byte) {
		w := HostWatcher{self: HostNSID}
		ev, ok := w.decode(rtnetlink.Notice{NSID: nsid, Kind: kind, Body: body})
		if ok && (ev.Kind < LinkChanged || ev.Kind > NamespaceGone) {
			t.Fatalf("%+v", ev)
		}
	})
}

// BenchmarkHostWatch measures how long it takes from the change of an entry in a
// pod, the request included, until Receive has returned the event.
func BenchmarkHostWatch(b *testing.B) {
	host, pod := nstest.Pair(b)
	w, err := watchHost(host.NS)
	if err != nil {
		b.Fatal(err)
	}
	heard := make(chan time.Time)
	go func() {
		defer close(heard)
		for {
			events, err := w.Receive()
			if err != nil {
				return
			}
			for _, ev := range events {
				if ev.Kind == NeighborChanged && ev.Dst == mustAddr("10.0.0.9") {
					heard <- time.Now()
				}
			}
		}
	}()
	defer func() {
		_ = w.Close()
		for range heard {
		}
	}()
	tb := openTable(b, pod.NS)
	dst, index := mustAddr("10.0.0.9"), linkIndex(b, tb, "eth0")
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		p := rtnetlink.Pin{Key: key{Dst: dst, Index: index}, LLAddr: [hwaddrLen]byte{2, 0, 0, 0, 1, byte(i)}, Protocol: Protocol}
		start := time.Now()
		if err := tb.conn.SetEntry(b.Context(), p, rtnetlink.Replace); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-heard).Sub(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "µs/median")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "µs/p99")
}
