// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// unpinned checks that neither gateway is pinned, for this reason, and nothing else of ours is in the pod.
func (r *rowRun) unpinned(t *testing.T, reason string) {
	t.Helper()
	r.recorded(t, map[string]truth{})
	r.skipped(t, both(reason))
	if got := r.used(t); len(got) != 0 {
		t.Errorf("the pod's stack has %v, want nothing", got)
	}
	if got := r.annotated(t, r.container); len(got) != 0 {
		t.Errorf("annotated %v, want nothing", got)
	}
}

// routerBeyond makes a bridge without addresses and a station on it that is the gateway.
func routerBeyond(t *testing.T) station {
	t.Helper()
	makeBridge(t)
	router := join(t, "router0")
	router.hold(segmentPrefixes...)
	router.route(t)
	return router
}

// Whoever has a port on the bridge may give itself the gateway's address, and so may a pod: that the host can see it there is no
// truth.
func TestRowRouterBeyondTheBridge(t *testing.T) {
	spec := rowSpec{name: "bridge", before: func(t *testing.T, _ *rowRun) { routerBeyond(t) }}
	row(t, spec, func(t *testing.T, r *rowRun) {
		r.unpinned(t, "RouterBeyondBridge")
		r.reaches(t, node.Targets()...)
		for _, gateway := range segmentGateways {
			if len(r.asked(gateway)) == 0 {
				t.Errorf("nobody asked for %s, which nobody has pinned", gateway)
			}
		}
	})
}

// routerBehindParent makes the link over which pods get a macvlan: its other end is the router's.
func routerBehindParent(t *testing.T) station {
	t.Helper()
	router := attach(t, datapath.SegmentLink)
	router.hold(segmentPrefixes...)
	router.route(t)
	return router
}

// The node has no part in a macvlan's segment.
func TestRowMacvlan(t *testing.T) {
	spec := rowSpec{name: "macvlan", before: func(t *testing.T, _ *rowRun) { routerBehindParent(t) }}
	row(t, spec, func(t *testing.T, r *rowRun) {
		r.unpinned(t, "UnsupportedLink")
		r.reaches(t, node.Targets()...)
	})
}

// The gateway is reached over a link of the pod's own that leads nowhere by itself: a bridge with the addresses, of which eth0 is a
// port, or an eth0 that is upon another link. VLAN and bond links are judged like the latter; this kernel may lack them, and as with
// masters that are no Linux bridge (Open vSwitch, bonds), package neighbor's tests have what other kernels say of them.
func TestRowLinksInThePod(t *testing.T) {
	for _, name := range []string{"pod-bridge", "pod-upper"} {
		t.Run(name, func(t *testing.T) {
			spec := rowSpec{name: name, before: func(t *testing.T, _ *rowRun) { makeBridge(t, segmentPrefixes...) }}
			row(t, spec, func(t *testing.T, r *rowRun) {
				r.unpinned(t, "UnsupportedLink")
				r.reaches(t, node.Targets()...)
			})
		})
	}
}
