// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"fmt"
	"slices"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/node"
)

// learnedRow is a row for an operator who asks for addresses that the host does not know. The wire is not silent then: neighpin asks, from
// the pod's address. That takes some 50 ms of the 60 to 80 that gVisor leaves, so that other pods may be tried.
func learnedRow(name string, before func(t *testing.T)) rowSpec {
	return rowSpec{name: name, args: []string{"--learned", "probe", "--learned-interval", "1s", "--metrics-address", metricsAddress}, tries: 5, before: func(t *testing.T, _ *rowRun) {
		under(t, "datapath "+name+", learned by asking")
		before(t)
	}}
}

func TestRowRouterBeyondTheBridgeLearned(t *testing.T) {
	var router station
	spec := learnedRow("bridge", func(t *testing.T) { router = routerBeyond(t) })
	row(t, spec, func(t *testing.T, r *rowRun) {
		r.pinned(t, both(truth{router.mac(), "learned"}))
		r.skipped(t, map[string]string{})
		r.reaches(t, node.Targets()...)
	})
}

// As with VRRP the gateway's address moves to another MAC, but nobody says so, and a permanent entry is deaf to whom it hears.
func TestRowMacvlanLearned(t *testing.T) {
	var router station
	spec := learnedRow("macvlan", func(t *testing.T) { router = routerBehindParent(t) })
	row(t, spec, func(t *testing.T, r *rowRun) {
		old := router.mac()
		r.pinned(t, both(truth{old, "learned"}))
		r.reaches(t, node.Targets()...)

		const next = "02:00:5e:00:01:07"
		router.IP("link set eth0 address " + next)
		r.follows(t, old, truth{next, "learned"})
	})
}

// doubted says whether exactly these stations are said to claim each gateway.
func (r *rowRun) doubted(claims ...string) error {
	for _, gateway := range segmentGateways {
		i := slices.IndexFunc(r.sandbox.Doubts, func(d node.Doubt) bool { return d.Dst == gateway && d.Reason == "Conflict" })
		if i < 0 {
			return fmt.Errorf("no conflict about %s: %+v", gateway, r.sandbox.Doubts)
		}
		got := slices.Sorted(slices.Values(r.sandbox.Doubts[i].Claims))
		if slices.Sort(claims); !slices.Equal(got, claims) {
			return fmt.Errorf("%s is claimed by %v, want %v", gateway, got, claims)
		}
	}
	return nil
}

// Of two that claim a gateway neither is believed.
func TestRowRouterBeyondTheBridgeContested(t *testing.T) {
	var router station
	var spoofer *liar
	spec := learnedRow("bridge", func(t *testing.T) {
		router = routerBeyond(t)
		spoofer = join(t, "liar0").claimGateways(t)
	})
	// The liar is part of this very test. On a machine with too much to do it may claim a gateway only when the router's answer has been taken
	// for the truth, which it then was, but not pod after pod.
	var believed []node.Neighbor
	spec.lucky = func(r *rowRun) bool {
		for _, n := range r.sandbox.Neighbors {
			if n.LLAddr == spoofer.MAC() {
				believed = append(believed, n)
			}
		}
		return len(r.sandbox.Neighbors) == 0 && r.doubted(router.mac(), spoofer.MAC()) == nil
	}
	row(t, spec, func(t *testing.T, r *rowRun) {
		if len(believed) > 0 {
			t.Errorf("the liar alone was believed: %+v", believed)
		}
		r.eventually(t, "the conflict to be reported", func() error { return r.doubted(router.mac(), spoofer.MAC()) })
		t.Logf("doubts %+v", r.sandbox.Doubts)
		r.unpinned(t, "Conflict")
		r.logged(t, "more than one station claims the gateway; it is not pinned", segmentGateways[0])
		r.counted(t, `neighpin_events_total{kind="conflict"}`, 1)
		r.counted(t, `neighpin_gateways_skipped{reason="Conflict"}`, 2)

		if r.gvisor {
			return // it has taken what there was, which is nothing: nobody asks on for its sake
		}
		spoofer.stop()
		r.eventually(t, "the conflict to end", func() error {
			if len(r.sandbox.Doubts) != 0 {
				return fmt.Errorf("%+v", r.sandbox.Doubts)
			}
			return nil
		})
		r.eventually(t, "the pin to come", func() error { return r.pins(t, both(truth{router.mac(), "learned"})) })
		r.reaches(t, node.Targets()...)
	})
}

// A pin that was learned stays when somebody else begins to claim the gateway, and that is said.
func TestRowRouterBeyondTheBridgeContestedLater(t *testing.T) {
	var router, other station
	spec := learnedRow("bridge", func(t *testing.T) {
		router = routerBeyond(t)
		other = join(t, "liar0")
	})
	row(t, spec, func(t *testing.T, r *rowRun) {
		want := both(truth{router.mac(), "learned"})
		r.pinned(t, want)
		spoofer := other.claimGateways(t)
		r.eventually(t, "the conflict to be reported", func() error { return r.doubted(router.mac(), spoofer.MAC()) })
		r.logged(t, "more than one station claims the gateway; its pin stays", segmentGateways[0])
		spoofer.announces(t)
		r.refresh(t)
		r.pinned(t, want)
		if err := r.stale(map[string]outdated{}); err != nil {
			t.Error(err)
		}
		r.reaches(t, node.Targets()...)
	})
}
