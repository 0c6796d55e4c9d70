// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/neighpin/neighpin/internal/nstest"
)

func review(t testing.TB, tb *Table, q Query) Resolution {
	t.Helper()
	res, err := tb.Review(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if res.HandedOver || len(res.Unknown) > 0 {
		t.Errorf("a review told of %+v", res)
	}
	return res
}

// taken makes a pod whose runtime has taken the addresses and routes, as gVisor
// does, and returns what had been pinned there.
func taken(t testing.TB, host, pod *nstest.NS) (*Table, []Neighbor) {
	t.Helper()
	tb := tableFor(t, pod, host)
	pinned := resolve(t, tb).Neighbors
	pin(t, tb, pinned)
	pod.IP("addr flush dev eth0 scope global", "route flush table all dev eth0")
	expect(t, resolve(t, tb, pinned...), "handed over")
	return tb, pinned
}

// The runtime's copy is as true as what the host says now, although the sandbox
// has neither routes nor IPv4 entries any more.
func TestReviewAfterTheHandOver(t *testing.T) {
	host, pod := nstest.DualStackPair(t)
	tb, pinned := taken(t, host, pod)
	before := entries(pod)
	expect(t, review(t, tb, Query{Known: pinned}), gw4+"peer NONE", gw6+"peer PERMANENT")
	if res := review(t, tb, Query{Known: pinned}); len(res.Basis) != 1 {
		t.Errorf("basis %v", res.Basis)
	}

	host.IP("link set lxc0 address " + hostMAC2)
	res := review(t, tb, Query{Known: pinned})
	expect(t, res, "10.0.0.1 eth0 "+hostMAC2+" inet peer NONE", "fd00::1 eth0 "+hostMAC2+" inet6 peer PERMANENT")
	expectOutdated(t, res, gw6+"PERMANENT")
	host.IP("link set lxc0 address " + hostMAC)
	res = review(t, tb, Query{Known: pinned})
	expect(t, res, gw4+"peer NONE", gw6+"peer PERMANENT")
	expectOutdated(t, res)
	expectEntries(t, pod, before...) // nothing was written

	host.IP("link del lxc0")
	expect(t, review(t, tb, Query{Known: pinned}), "10.0.0.1 eth0 - LinkGone", "fd00::1 eth0 - LinkGone")
	expect(t, review(t, tb, Query{}))
}

// What a process wrote and did not live to record is known by the mark; what somebody
// else left is not.
func TestReviewFindsEntriesOfOursThatNoRecordTellsOf(t *testing.T) {
	host, pod := nstest.DualStackPair(t)
	tb, pinned := taken(t, host, pod)
	pod.IP("neigh replace fd00::1 lladdr " + otherMAC + " dev eth0 nud permanent protocol 177")
	expectOutdated(t, review(t, tb, Query{Known: pinned}), "fd00::1 eth0 "+otherMAC+" inet6 PERMANENT")
	expectOutdated(t, review(t, tb, Query{}))
	pod.IP("neigh del fd00::1 dev eth0", "neigh add fd00::1 lladdr "+otherMAC+" dev eth0 nud permanent")
	expectOutdated(t, review(t, tb, Query{Known: pinned}))
	pod.IP("neigh del fd00::1 dev eth0", "neigh add fd00::1 lladdr "+otherMAC+" dev eth0 nud stale protocol 177")
	expectOutdated(t, review(t, tb, Query{Known: pinned}))
}

func expectOutdated(t testing.TB, res Resolution, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, outdated(res)); diff != "" {
		t.Errorf("outdated (-want +got):\n%s", diff)
	}
}

func TestReviewOfABridge(t *testing.T) {
	host, pod := bridged(t)
	host.IP("addr add 10.0.0.1/24 dev cni0", "addr add fd00::1/64 dev cni0 nodad")
	tb, pinned := taken(t, host, pod)
	expect(t, review(t, tb, Query{Known: pinned}), gw4+"port NONE", gw6+"port PERMANENT")
	host.IP("addr del 10.0.0.1/24 dev cni0") // a VIP that moves, and returns
	expect(t, review(t, tb, Query{Known: pinned}), "10.0.0.1 eth0 - RouterBeyondBridge", gw6+"port PERMANENT")
	host.IP("addr add 10.0.0.1/24 dev cni0")
	expect(t, review(t, tb, Query{Known: pinned}), gw4+"port NONE", gw6+"port PERMANENT")
	host.IP("link set lxc0 nomaster") // it leads elsewhere by the same address
	expect(t, review(t, tb, Query{Known: pinned}), gw4+"peer NONE", gw6+"peer PERMANENT")
	host.IP("link set lxc0 master cni0", "link del cni0")
	expect(t, review(t, tb, Query{Known: pinned}), gw4+"peer NONE", gw6+"peer PERMANENT")
}

func TestReviewOfWhatTheHostDoesNotKnow(t *testing.T) {
	host, pod := bridged(t)
	tb := tableFor(t, pod, host)
	list := []Neighbor{known("10.0.0.1", otherMAC, SourceExisting), known("fd00::1", otherMAC, SourceLearned), known("10.0.0.7", otherMAC, SourcePort)}
	const existing, learned = "10.0.0.1 eth0 " + otherMAC + " inet existing NONE", "fd00::1 eth0 " + otherMAC + " inet6 learned NONE"
	expect(t, review(t, tb, Query{Known: list}), existing, learned, "10.0.0.7 eth0 - RouterBeyondBridge")
	expect(t, review(t, tb, Query{Known: list, Learned: []Neighbor{known("fd00::1", hostMAC2, "")}}),
		existing, "fd00::1 eth0 "+hostMAC2+" inet6 learned NONE", "10.0.0.7 eth0 - RouterBeyondBridge")

	// Then it knows.
	host.IP("addr add 10.0.0.1/24 dev cni0", "addr add fd00::1/64 dev cni0 nodad")
	expect(t, review(t, tb, Query{Known: list}), "10.0.0.1 eth0 - Contested", gw6+"port NONE", "10.0.0.7 eth0 - RouterBeyondBridge")
	list[0].LLAddr = hostMAC
	expect(t, review(t, tb, Query{Known: list[:1]}), gw4+"existing NONE")
}

// What the pod does with its links while the runtime holds the copy.
func TestReviewOfAPodThatChangesItsLinks(t *testing.T) {
	host, pod := nstest.DualStackPair(t)
	tb, pinned := taken(t, host, pod)
	own := nstest.New(t)
	pod.IP("link set eth0 down", "link set eth0 name old0")
	expect(t, review(t, tb, Query{Known: pinned}), "10.0.0.1 eth0 - LinkGone", "fd00::1 eth0 - LinkGone")
	pod.Veth("eth0", own, "x0")
	expect(t, review(t, tb, Query{Known: pinned}), "10.0.0.1 eth0 - PeerElsewhere", "fd00::1 eth0 - PeerElsewhere")
	own.IP("link set x0 address " + hostMAC) // the same address is no other truth
	expect(t, review(t, tb, Query{Known: pinned}), gw4+"peer NONE", gw6+"peer NONE")

	odd := []Neighbor{{Dst: mustAddr("224.0.0.1"), Dev: "eth0", LLAddr: hostMAC}, {Dev: "eth0"}, {Dst: mustAddr("10.0.0.1"), Dev: "e\x1b"}}
	expect(t, review(t, tb, Query{Known: odd}), "- eth0 - InvalidTarget", "224.0.0.1 eth0 - InvalidTarget", `10.0.0.1 "e\x1b" - LinkGone`)
}
