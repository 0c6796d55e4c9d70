// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
)

// ends are the sandbox's links' other ends, as Resolve says.
func ends(t *testing.T, tb *Table, q Query) map[string]int {
	t.Helper()
	res, err := tb.Resolve(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return res.Ends
}

// A program takes the pod's link into a namespace of its own, of which nobody
// else knows.
func TestReviewOfALinkThatWasMovedAway(t *testing.T) {
	host, pod := nstest.DualStackPair(t)
	tb := tableFor(t, pod, host)
	pinned := resolve(t, tb).Neighbors
	pin(t, tb, pinned)
	known := Query{Known: pinned, Ends: ends(t, tb, Query{Known: pinned})}
	if len(known.Ends) != 1 || known.Ends["eth0"] == 0 {
		t.Fatalf("ends %v", known.Ends)
	}
	own := nstest.New(t)
	pod.IP("link set eth0 netns " + own.Ref())
	own.IP("link set eth0 up")

	// Without a state: nothing in the pod's tables is theirs.
	expect(t, review(t, tb, known), "10.0.0.1 eth0 "+hostMAC+" inet peer ", "fd00::1 eth0 "+hostMAC+" inet6 peer ")
	if res := review(t, tb, known); len(res.Basis) != 1 || res.Basis[0] != known.Ends["eth0"] {
		t.Errorf("basis %v, want the other end, %v", res.Basis, known.Ends)
	}
	host.IP("link set lxc0 address " + hostMAC2)
	expect(t, review(t, tb, known), "10.0.0.1 eth0 "+hostMAC2+" inet peer ", "fd00::1 eth0 "+hostMAC2+" inet6 peer ")

	// Who does not remember the other end knows nothing.
	expect(t, review(t, tb, Query{Known: pinned}), "10.0.0.1 eth0 - LinkGone", "fd00::1 eth0 - LinkGone")
	// Neither does it help to remember another link of the host, here its loopback.
	expect(t, review(t, tb, Query{Known: pinned, Ends: map[string]int{"eth0": 1}}), "10.0.0.1 eth0 - LinkGone", "fd00::1 eth0 - LinkGone")
	host.IP("link del lxc0")
	expect(t, review(t, tb, known), "10.0.0.1 eth0 - LinkGone", "fd00::1 eth0 - LinkGone")
}

// Behind a bridge the gateway's truth depends on more than the other end.
func TestReviewOfALinkOfABridgeThatWasMovedAway(t *testing.T) {
	host, pod := bridged(t)
	host.IP("addr add 10.0.0.1/24 dev cni0", "addr add fd00::1/64 dev cni0 nodad")
	tb := tableFor(t, pod, host)
	pinned := resolve(t, tb).Neighbors
	known := Query{Known: pinned, Ends: ends(t, tb, Query{Known: pinned})}
	own := nstest.New(t)
	pod.IP("link set eth0 netns " + own.Ref())
	expect(t, review(t, tb, known), "10.0.0.1 eth0 "+hostMAC+" inet port ", "fd00::1 eth0 "+hostMAC+" inet6 port ")
	host.IP("addr del 10.0.0.1/24 dev cni0")
	expect(t, review(t, tb, known), "10.0.0.1 eth0 - RouterBeyondBridge", "fd00::1 eth0 "+hostMAC+" inet6 port ")
}

// An other end in a namespace that is not the host's is not remembered: its
// number would be taken for one of the host's links.
func TestEndsAreThoseOfTheHost(t *testing.T) {
	host, pod := nstest.DualStackPair(t)
	elsewhere := nstest.New(t)
	tb := tableFor(t, pod, host)
	if got := ends(t, tb, Query{}); len(got) != 1 {
		t.Errorf("ends %v", got)
	}
	host.IP("link set lxc0 netns " + elsewhere.Ref())
	elsewhere.IP("link set lxc0 up")
	if got := ends(t, tb, Query{}); len(got) != 0 {
		t.Errorf("ends %v of a link that leads to a third namespace", got)
	}
}
