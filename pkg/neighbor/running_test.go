// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/neighpin/neighpin/internal/nstest"
)

// tableFor opens the tables of a pod for a process that runs on the host.
func tableFor(t testing.TB, pod, host *nstest.NS) *Table {
	t.Helper()
	tb, err := openWithHost(pod.NS, host.NS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tb.Close() })
	return tb
}

// look resolves for a pod whose programs run already, unless q says otherwise.
func look(t testing.TB, tb *Table, q Query) Resolution {
	t.Helper()
	q.Running = true
	res, err := tb.Resolve(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func outdated(res Resolution) []string {
	list := lines(Resolution{Neighbors: res.Outdated})
	for i, line := range list { // which have no source
		list[i] = joined(line)
	}
	return list
}

func known(dst, lladdr string, source Source) Neighbor {
	return Neighbor{Dst: netip.MustParseAddr(dst), Dev: "eth0", LLAddr: HardwareAddr(lladdr), Source: source}
}

// What a pod's own programs may have written while they ran is no owner's just
// because it is there. Each case says what stands in the table, and what was
// known from the time before.
func TestEntriesWhileThePodRuns(t *testing.T) {
	const (
		lie   = "neigh replace 10.0.0.1 lladdr " + otherMAC + " dev eth0 nud permanent"
		truth = "neigh replace 10.0.0.1 lladdr " + hostMAC + " dev eth0 nud permanent"
		zeros = "neigh replace 10.0.0.1 lladdr 00:00:00:00:00:00 dev eth0 nud permanent"
		mark  = " protocol 177"
	)
	ours := known("10.0.0.1", hostMAC, SourcePeer)
	for _, c := range []struct {
		name     string
		beyond   bool // the host knows nothing: the router is beyond a bridge
		known    []Neighbor
		vacant   bool // nobody had an entry when its programs began to run
		entry    string
		want     string
		outdated []string
	}{
		{name: "our pin with another address has drifted", known: []Neighbor{ours}, entry: lie,
			want: gw4 + "peer PERMANENT", outdated: []string{"10.0.0.1 eth0 " + otherMAC + " inet PERMANENT"}},
		{name: "our pin with zeros has drifted", known: []Neighbor{ours}, entry: zeros,
			want: gw4 + "peer PERMANENT", outdated: []string{"10.0.0.1 eth0 00:00:00:00:00:00 inet PERMANENT"}},
		{name: "our pin as it was", known: []Neighbor{ours}, entry: truth + mark, want: gw4 + "peer PERMANENT"},
		{name: "our pin without a truth", beyond: true, known: []Neighbor{ours}, entry: lie,
			want: "10.0.0.1 eth0 - RouterBeyondBridge", outdated: []string{"10.0.0.1 eth0 " + otherMAC + " inet PERMANENT"}},
		{name: "another's that agrees with the host", entry: truth, want: gw4 + "existing PERMANENT"},
		{name: "another's that does not", entry: lie, want: "10.0.0.1 eth0 - Contested"},
		{name: "another's that wears our mark and lies", entry: lie + mark, want: "10.0.0.1 eth0 - Contested"},
		{name: "another's in a place that was nobody's", vacant: true, entry: lie,
			want: gw4 + "peer PERMANENT", outdated: []string{"10.0.0.1 eth0 " + otherMAC + " inet PERMANENT"}},
		{name: "of zeros in a place that was nobody's", vacant: true, entry: zeros,
			want: gw4 + "peer PERMANENT", outdated: []string{"10.0.0.1 eth0 00:00:00:00:00:00 inet PERMANENT"}},
		{name: "another's in a place that was nobody's, of which the host knows nothing", vacant: true, beyond: true, entry: lie,
			want: "10.0.0.1 eth0 - Unowned"},
		{name: "one with our mark and the truth, whose record is lost", entry: truth + mark, want: gw4 + "peer PERMANENT"},
		{name: "another's where the host knows nothing", beyond: true, entry: lie, want: "10.0.0.1 eth0 - Unowned"},
		{name: "that wears our mark", beyond: true, entry: lie + mark, want: "10.0.0.1 eth0 - Unowned"},
		{name: "of zeros", beyond: true, entry: zeros, want: "10.0.0.1 eth0 - InvalidEntry"},
		{name: "one that CNI made", beyond: true, known: []Neighbor{known("10.0.0.1", otherMAC, SourceExisting)}, entry: lie,
			want: "10.0.0.1 eth0 " + otherMAC + " inet existing PERMANENT"},
		{name: "one that CNI made, with another address since", beyond: true, known: []Neighbor{known("10.0.0.1", hostMAC, SourceExisting)},
			entry: lie, want: "10.0.0.1 eth0 - Unowned"},
		{name: "one that CNI made, which the host contradicts by now", known: []Neighbor{known("10.0.0.1", otherMAC, SourceExisting)},
			entry: lie, want: "10.0.0.1 eth0 - Contested"},
		{name: "one that CNI made, corrected by somebody", known: []Neighbor{known("10.0.0.1", otherMAC, SourceExisting)},
			entry: truth, want: gw4 + "existing PERMANENT"},
		{name: "one that CNI made for another gateway", beyond: true, known: []Neighbor{known("10.0.0.9", otherMAC, SourceExisting)},
			entry: lie, want: "10.0.0.1 eth0 - Unowned"},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, pod := nstest.Pair(t)
			if c.beyond {
				host.IP("link add name cni0 type bridge", "link set cni0 up", "link set lxc0 master cni0")
			}
			pod.IP("addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1", c.entry)
			tb := tableFor(t, pod, host)
			q := Query{Known: c.known}
			if c.vacant {
				q.Vacant = []Gateway{{mustAddr("10.0.0.1"), "eth0"}}
			}
			res := look(t, tb, q)
			expect(t, res, c.want)
			if diff := cmp.Diff(c.outdated, outdated(res)); diff != "" {
				t.Errorf("outdated (-want +got):\n%s", diff)
			}
			// What has drifted may be put right, and nothing else is touched.
			before := entries(pod)
			pin(t, tb, res.Neighbors)
			if len(c.outdated) > 0 && len(res.Neighbors) > 0 {
				expectEntries(t, pod, "10.0.0.1 dev eth0 lladdr "+hostMAC+" PERMANENT proto 177")
			} else {
				expectEntries(t, pod, before...)
			}
		})
	}
}

// A pod may put the other end of a link of its own making where it likes.
func TestOtherEndElsewhereWhileThePodRuns(t *testing.T) {
	third, pod, host := nstest.New(t), nstest.New(t), nstest.New(t)
	pod.Veth("eth9", host, "x0") // so that the host has a number
	pod.Veth("eth0", third, "lxc0")
	third.IP("link set lxc0 address " + hostMAC)
	pod.DualStack()
	tb := tableFor(t, pod, host)

	// When CNI has just finished there is nobody else who could have (azure-vnet, transparent-vlan).
	found := resolve(t, tb)
	expect(t, found, gw4+"peer NONE", gw6+"peer NONE")

	expect(t, look(t, tb, Query{}), "10.0.0.1 eth0 - PeerElsewhere", "fd00::1 eth0 - PeerElsewhere")
	res := look(t, tb, Query{Known: found.Neighbors[:1]})
	expect(t, res, gw4+"peer NONE", "fd00::1 eth0 - PeerElsewhere")
	if len(res.Unknown) > 0 {
		t.Errorf("a probe would ask the pod's own namespace: %v", res.Unknown)
	}
	third.IP("link set lxc0 address " + hostMAC2)
	expect(t, look(t, tb, Query{Known: found.Neighbors}), "10.0.0.1 eth0 - PeerElsewhere", "fd00::1 eth0 - PeerElsewhere")

	// The control: the same is believed of the host.
	expect(t, look(t, tableFor(t, pod, third), Query{}), "10.0.0.1 eth0 "+hostMAC2+" inet peer NONE", "fd00::1 eth0 "+hostMAC2+" inet6 peer NONE")
	// And by default the host is this process's namespace, to which no link leads.
	expect(t, look(t, openTable(t, pod.NS), Query{}), "10.0.0.1 eth0 - PeerElsewhere", "fd00::1 eth0 - PeerElsewhere")
}

func TestQuestionsForWhatTheHostDoesNotKnow(t *testing.T) {
	host, pod := nstest.Pair(t)
	host.IP("link add name cni0 type bridge", "link set cni0 up", "link set lxc0 master cni0")
	pod.Sysctl("net/ipv6/conf/eth0/addr_gen_mode", "1") // no link-local address of the kernel's own
	pod.IP("link set eth0 down", "link set eth0 up", "addr flush dev eth0",
		"addr add 10.9.0.2/32 dev eth0", "addr add 10.0.0.2/24 dev eth0", "addr add 10.1.0.2/24 dev eth0",
		"addr add fd00::2/64 dev eth0 nodad",
		"route add default via 10.1.0.1", "route add 192.0.2.0/24 via 10.0.0.1", "route add 198.51.100.0/24 via 203.0.113.1 dev eth0 onlink",
		"route add default via fd00::1", "route add 2001:db8::/32 via fe80::1 dev eth0", "route add 2001:db8:1::/48 via fd05::1 dev eth0 onlink")
	tb := tableFor(t, pod, host)
	mac := HardwareAddr(pod.MAC("eth0"))
	ask := func(dst, src string) Ask {
		a := Ask{Dst: mustAddr(dst), Dev: "eth0", LLAddr: mac}
		if src != "" {
			a.Src = mustAddr(src)
		}
		return a
	}
	questions := func(want ...Ask) {
		t.Helper()
		got := resolve(t, tb).Unknown
		for _, list := range [][]Ask{want, got} {
			slices.SortFunc(list, func(a, b Ask) int { return a.Dst.Compare(b.Dst) })
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("questions (-want +got):\n%s", diff)
		}
	}
	questions(ask("10.1.0.1", "10.1.0.2"), ask("10.0.0.1", "10.0.0.2"), ask("203.0.113.1", "10.9.0.2"),
		ask("fd00::1", "fd00::2"), ask("fe80::1", "fd00::2"), ask("fd05::1", "fd00::2"))

	// A link-local address is the better one for a link-local gateway, once it
	// is sure that it is nobody else's.
	pod.Sysctl("net/ipv6/conf/eth0/accept_dad", "1")
	pod.Sysctl("net/ipv6/conf/eth0/dad_transmits", "200")
	pod.IP("addr add fe80::2/64 dev eth0", "addr del fd00::2/64 dev eth0", "addr add fd07::2/128 dev eth0")
	questions(ask("10.1.0.1", "10.1.0.2"), ask("10.0.0.1", "10.0.0.2"), ask("203.0.113.1", "10.9.0.2"),
		ask("fd00::1", ""), ask("fe80::1", ""), ask("fd05::1", ""))
	pod.IP("addr del fe80::2/64 dev eth0", "addr add fe80::2/64 dev eth0 nodad")
	questions(ask("10.1.0.1", "10.1.0.2"), ask("10.0.0.1", "10.0.0.2"), ask("203.0.113.1", "10.9.0.2"),
		ask("fd00::1", "fe80::2"), ask("fe80::1", "fe80::2"), ask("fd05::1", "fe80::2"))

	// The other side of a point-to-point address is on the link.
	pod.IP("addr add 10.2.0.2 peer 10.1.0.1/32 dev eth0", "addr del 10.1.0.2/24 dev eth0", "route replace default via 10.1.0.1")
	questions(ask("10.1.0.1", "10.2.0.2"), ask("10.0.0.1", "10.0.0.2"), ask("203.0.113.1", "10.9.0.2"),
		ask("fd00::1", "fe80::2"), ask("fe80::1", "fe80::2"), ask("fd05::1", "fe80::2"))

	// What is known needs no question.
	host.IP("link set lxc0 nomaster")
	questions()
}

// A learned address counts where the host knows none, and nowhere else.
func TestLearned(t *testing.T) {
	host, pod := bridged(t)
	tb := tableFor(t, pod, host)
	learned := []Neighbor{known("10.0.0.1", otherMAC, ""), known("fd00::1", "01:00:5e:00:00:01", "")}
	res, err := tb.Resolve(t.Context(), Query{Learned: learned})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, res, "10.0.0.1 eth0 "+otherMAC+" inet learned NONE", "fd00::1 eth0 - RouterBeyondBridge")
	if len(res.Unknown) != 1 || res.Unknown[0].Dst != mustAddr("fd00::1") {
		t.Errorf("questions %v", res.Unknown)
	}
	pin(t, tb, res.Neighbors)
	expectEntries(t, pod, "10.0.0.1 dev eth0 lladdr "+otherMAC+" PERMANENT proto 177")
	pinned := res.Neighbors

	// The router's address changes, and the pin follows what was learned anew.
	learned[0].LLAddr = hostMAC2
	res = look(t, tb, Query{Known: pinned, Learned: learned})
	expect(t, res, "10.0.0.1 eth0 "+hostMAC2+" inet learned PERMANENT", "fd00::1 eth0 - RouterBeyondBridge")
	pin(t, tb, res.Neighbors)
	expectEntries(t, pod, "10.0.0.1 dev eth0 lladdr "+hostMAC2+" PERMANENT proto 177")

	// Nothing is known any more: the pin has no truth.
	res = look(t, tb, Query{Known: res.Neighbors})
	expect(t, res, "10.0.0.1 eth0 - RouterBeyondBridge", "fd00::1 eth0 - RouterBeyondBridge")
	if len(res.Outdated) != 1 {
		t.Errorf("outdated %v", res.Outdated)
	}

	// Somebody's entry and what was learned disagree.
	pod.IP("neigh add fd00::1 lladdr " + otherMAC + " dev eth0 nud permanent")
	learned[1].LLAddr = hostMAC2
	expect(t, look(t, tb, Query{Learned: learned}), "10.0.0.1 eth0 "+hostMAC2+" inet learned PERMANENT", "fd00::1 eth0 - Contested")
	pod.IP("neigh del fd00::1 dev eth0")

	// The host's own word is better.
	host.IP("addr add 10.0.0.1/24 dev cni0", "addr add fd00::1/64 dev cni0 nodad")
	expect(t, look(t, tb, Query{Known: pinned, Learned: learned}), gw4+"port PERMANENT", gw6+"port NONE")

	// And where it can only be a pod's doing, nothing is learned.
	pod.IP("neigh del 10.0.0.1 dev eth0")
	expect(t, look(t, openTable(t, pod.NS), Query{Learned: learned}), "10.0.0.1 eth0 - PeerElsewhere", "fd00::1 eth0 - PeerElsewhere")
}

func TestBasisNamesWhatTheAnswerRestsOn(t *testing.T) {
	host, pod := bridged(t)
	pod.Veth("eth1", host, "lxc1")
	pod.Veth("eth2", host, "lxc2")
	host.Veth("cni0.7", host, "cni0.7p")
	host.IP("link set cni0.7p master cni0")
	pod.IP("addr add 10.1.0.2/24 dev eth1", "addr add 10.2.0.2/24 dev eth2", "route add 192.0.2.0/24 via 10.1.0.1",
		"route add 198.51.100.0/24 via 10.1.0.3")
	tb := tableFor(t, pod, host)
	basis := func(res Resolution, want ...string) {
		t.Helper()
		onHost := openTable(t, host.NS)
		var numbers []int
		for _, name := range want {
			numbers = append(numbers, linkIndex(t, onHost, name))
		}
		slices.Sort(numbers)
		if diff := cmp.Diff(numbers, slices.Sorted(slices.Values(res.Basis))); diff != "" {
			t.Errorf("basis (-want +got):\n%s", diff)
		}
	}
	// A bridge that does not hold the gateway may do so again.
	basis(resolve(t, tb), "lxc0", "cni0", "lxc1")
	host.IP("addr add 10.0.0.1/32 dev cni0.7")
	basis(resolve(t, tb), "lxc0", "cni0", "lxc1", "cni0.7", "cni0.7p")
	host.IP("link set lxc0 nomaster")
	basis(resolve(t, tb), "lxc0", "lxc1")
	pod.IP("link set eth0 down", "link set eth1 down")
	basis(resolve(t, tb))
}
