// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

const (
	gw4 = "10.0.0.1 eth0 " + hostMAC + " inet "
	gw6 = "fd00::1 eth0 " + hostMAC + " inet6 "
)

// bridged makes a pod whose other end is a port of the bridge cni0.
func bridged(t testing.TB) (host, pod *nstest.NS) {
	host, pod = nstest.Pair(t)
	host.IP("link add name cni0 type bridge", "link set cni0 up", "link set lxc0 master cni0")
	pod.DualStack()
	return host, pod
}

func TestPortOfABridgeThatHoldsTheGateway(t *testing.T) {
	host, pod := bridged(t)
	host.IP("addr add 10.0.0.1/24 dev cni0", "addr add fd00::1/64 dev cni0 nodad")
	tb := openTable(t, pod.NS)
	expect(t, resolve(t, tb), gw4+"port NONE", gw6+"port NONE")

	// A port with a lower address changes the bridge's own, and pods are not
	// told. The own port's address still leads to the bridge.
	before := host.MAC("cni0")
	other := nstest.New(t)
	other.Veth("eth0", host, "lxc9")
	host.IP("link set lxc9 address 00:00:00:00:00:01", "link set lxc9 master cni0")
	if after := host.MAC("cni0"); after == before {
		t.Fatalf("the bridge kept its address %s", after)
	}
	res := resolve(t, tb)
	expect(t, res, gw4+"port NONE", gw6+"port NONE")
	pin(t, tb, res.Neighbors)
	reach(t, pod, "10.0.0.1")
	reach(t, pod, "fd00::1")

	// The gateway moves away: it has no truth any more, though the entry is ours.
	host.IP("addr del 10.0.0.1/24 dev cni0")
	res = resolve(t, tb, res.Neighbors...)
	expect(t, res, "10.0.0.1 eth0 - RouterBeyondBridge", gw6+"port PERMANENT")
	if diff := cmp.Diff([]string{gw4 + " PERMANENT"}, lines(Resolution{Neighbors: res.Outdated})); diff != "" {
		t.Errorf("outdated (-want +got):\n%s", diff)
	}
}

// reach makes sure that a pinned address is one that the other side takes
// frames at: its IP stack refuses a connection to a port where nobody listens.
// The pod has no other way to it, since it does not ask while the entry is
// permanent.
func reach(t testing.TB, ns *nstest.NS, dst string) {
	t.Helper()
	err := ns.Do(func() error {
		d := net.Dialer{Timeout: time.Minute} // a lost first packet comes again after 1, 3, 7 s
		c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(dst, "1"))
		if err == nil {
			c.Close()
		}
		return err
	})
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connect to %s: %v", dst, err)
	}
}

func TestPeerIsReachedByItsPin(t *testing.T) {
	host, pod := nstest.Pair(t)
	host.IP("addr add 10.0.0.1/24 dev lxc0", "addr add fd00::1/64 dev lxc0 nodad")
	pod.DualStack()
	tb := openTable(t, pod.NS)
	pin(t, tb, resolve(t, tb).Neighbors)
	reach(t, pod, "10.0.0.1")
	reach(t, pod, "fd00::1")
	expectEntries(t, pod, "10.0.0.1 dev eth0 lladdr "+hostMAC+" PERMANENT proto 177",
		"fd00::1 dev eth0 lladdr "+hostMAC+" PERMANENT proto 177")
}

func TestRouterBeyondTheBridge(t *testing.T) {
	t.Run("elsewhere", func(t *testing.T) {
		_, pod := bridged(t)
		expect(t, resolve(t, openTable(t, pod.NS)), "10.0.0.1 eth0 - RouterBeyondBridge", "fd00::1 eth0 - RouterBeyondBridge")
	})
	t.Run("on another link of the host", func(t *testing.T) {
		host, pod := bridged(t)
		host.IP("addr add 10.0.0.1/32 dev lo", "addr add fd00::1/128 dev lo")
		expect(t, resolve(t, openTable(t, pod.NS)), "10.0.0.1 eth0 - RouterBeyondBridge", "fd00::1 eth0 - RouterBeyondBridge")
	})
	t.Run("the bridge has an address that is somebody else's", func(t *testing.T) {
		host, pod := bridged(t)
		router := nstest.New(t)
		router.Veth("eth0", host, "up0")
		router.IP("addr add fd00::1/64 dev eth0 nodad")
		host.IP("link set up0 master cni0")
		host.Sysctl("net/ipv6/conf/cni0/accept_dad", "1")
		host.IP("addr add fd00::1/64 dev cni0")
		nstest.Eventually(t, "the bridge to find its address taken", func() bool {
			return host.Output("addr", "show", "dev", "cni0", "dadfailed") != ""
		})
		expect(t, resolve(t, openTable(t, pod.NS)), "10.0.0.1 eth0 - RouterBeyondBridge", "fd00::1 eth0 - RouterBeyondBridge")
	})
}

// The other end is looked up where it is. The host, in the sense of the
// namespace that the tests run in, has links of the same numbers.
func TestPeerInAThirdNamespace(t *testing.T) {
	third, pod := nstest.New(t), nstest.New(t)
	elsewhere := nstest.New(t) // gives the third another number than 0
	pod.Veth("eth9", elsewhere, "x0")
	pod.Veth("eth0", third, "lxc0")
	third.IP("link set lxc0 address "+hostMAC, "link add name br0 type bridge", "link set br0 up",
		"link set lxc0 master br0", "addr add 10.0.0.1/24 dev br0")
	pod.DualStack()
	expect(t, resolve(t, openTable(t, pod.NS)), gw4+"port NONE", "fd00::1 eth0 - RouterBeyondBridge")
	third.IP("link set lxc0 nomaster")
	expect(t, resolve(t, openTable(t, pod.NS)), gw4+"peer NONE", gw6+"peer NONE")

	// The other end moves on, to where no number leads yet.
	fourth := nstest.New(t)
	third.IP("link set lxc0 netns " + fourth.Ref())
	fourth.IP("link set lxc0 up address " + hostMAC2)
	expect(t, resolve(t, openTable(t, pod.NS)),
		"10.0.0.1 eth0 "+hostMAC2+" inet peer NONE", "fd00::1 eth0 "+hostMAC2+" inet6 peer NONE")
}

func TestNoTruth(t *testing.T) {
	t.Run("the other end is in the sandbox", func(t *testing.T) {
		pod := nstest.New(t)
		pod.Veth("eth0", pod, "eth1")
		pod.DualStack()
		tb := openTable(t, pod.NS)
		expect(t, resolve(t, tb), "10.0.0.1 eth0 - PeerInSandbox", "fd00::1 eth0 - PeerInSandbox")
		// Nothing to be learned there either, by a probe or from before.
		learned := Query{Learned: []Neighbor{known("10.0.0.1", otherMAC, ""), known("fd00::1", otherMAC, "")}}
		expect(t, look(t, tb, learned), "10.0.0.1 eth0 - PeerInSandbox", "fd00::1 eth0 - PeerInSandbox")
		expect(t, review(t, tb, Query{Known: []Neighbor{known("10.0.0.1", otherMAC, SourceLearned)}}), "10.0.0.1 eth0 - PeerInSandbox")
	})
	t.Run("macvlan", func(t *testing.T) {
		host, pod := nstest.New(t), nstest.New(t)
		host.Veth("up0", nstest.New(t), "far0")
		host.IP(fmt.Sprintf("link add link up0 name eth0 netns %s type macvlan mode bridge", pod.Ref()))
		pod.IP("link set eth0 up")
		pod.DualStack()
		expect(t, resolve(t, openTable(t, pod.NS)), "10.0.0.1 eth0 - UnsupportedLink", "fd00::1 eth0 - UnsupportedLink")
	})
	t.Run("a bridge of the pod's own", func(t *testing.T) {
		_, pod := nstest.Pair(t)
		pod.IP("link set eth0 name up0", "link add name eth0 type bridge", "link set up0 master eth0", "link set eth0 up")
		pod.DualStack()
		expect(t, resolve(t, openTable(t, pod.NS)), "10.0.0.1 eth0 - UnsupportedLink", "fd00::1 eth0 - UnsupportedLink")
	})
}

// What no test can bring about on demand: the other end disappears between two
// looks. The kernel's own answers to the looks that then fail are real.
func TestPeerGone(t *testing.T) {
	host, pod := nstest.Pair(t)
	host.IP("link add name br0 type bridge", "link set br0 up")
	tb := openTable(t, pod.NS)
	eth0 := func() rtnetlink.Link {
		l, err := tb.conn.Link(t.Context(), linkIndex(t, tb, "eth0"), rtnetlink.NSIDNone)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for name, change := range map[string]func(*rtnetlink.Link){
		"no number for its namespace":       func(l *rtnetlink.Link) { l.NSID = rtnetlink.NSIDNone },
		"a number without a namespace":      func(l *rtnetlink.Link) { l.NSID = 4711 },
		"no such link":                      func(l *rtnetlink.Link) { l.Other = 4711 },
		"no other end at all":               func(l *rtnetlink.Link) { l.Other, l.HasNSID = 0, false },
		"a link of another kind":            func(l *rtnetlink.Link) { l.Other = 1 },
		"a veth that belongs to another":    func(l *rtnetlink.Link) { l.Index++ },
		"the number of a link that is none": func(l *rtnetlink.Link) { l.Other = 1 << 30 },
	} {
		look, l := tb.newSurvey(), eth0()
		change(&l)
		o, err := look.outlook(t.Context(), l)
		if err != nil || o.reason != ReasonPeerGone {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
	look := tb.newSurvey()
	if o, err := look.outlook(t.Context(), eth0()); err != nil || !o.known() {
		t.Errorf("unchanged: %+v, %v", o, err)
	}
}

func linkIndex(t testing.TB, tb *Table, name string) int {
	t.Helper()
	index, err := tb.newLinkCache().index(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// The kernel that the tests run on may lack all of these but the bridge.
func TestMasters(t *testing.T) {
	port := rtnetlink.Link{Name: "lxc0", LLAddr: hostMAC}
	for kind, want := range map[string]finding{
		"vrf":         {lladdr: hostMAC, source: SourcePeer},
		"bridge":      {lladdr: hostMAC, source: SourcePort},
		"openvswitch": {reason: ReasonUnsupportedMaster},
		"bond":        {reason: ReasonUnsupportedMaster},
		"team":        {reason: ReasonUnsupportedMaster},
		"hsr":         {reason: ReasonUnsupportedMaster},
		"":            {reason: ReasonUnsupportedMaster},
		"new\x1b":     {reason: ReasonUnsupportedMaster},
	} {
		got := beyond(port, rtnetlink.Link{Name: "m0", Kind: kind})
		if !isPlainText(got.message) {
			t.Errorf("%q: message %q", kind, got.message)
		}
		got.message = ""
		if got != want {
			t.Errorf("%q: %+v, want %+v", kind, got, want)
		}
	}
}

func isPlainText(s string) bool { return s == plain.Text(s) }
