// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"slices"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/node"
)

// spoofedBridge makes a bridge that is the gateway and a station on it that claims to be that, and is the only one that answers: it wins
// the first resolution, too.
func spoofedBridge(t *testing.T) *liar {
	t.Helper()
	makeBridge(t, segmentPrefixes...)
	muteBridge(t)
	return join(t, "liar0").claimGateways(t)
}

// The pin is what the host knows of itself, whoever claims what on the segment.
func TestRowBridgeWithASpoofer(t *testing.T) {
	var spoofer *liar
	spec := rowSpec{name: "bridge", before: func(t *testing.T, _ *rowRun) { spoofer = spoofedBridge(t) }}
	row(t, spec, func(t *testing.T, r *rowRun) {
		want := both(truth{r.hostEnd(t), "port"})
		r.pinned(t, want)
		r.skipped(t, map[string]string{})
		spoofer.announces(t)
		r.reaches(t, slices.Repeat(node.Targets(), 200)...)
		r.silent(t, segmentGateways...)
		r.refresh(t)
		r.pinned(t, want)
	})
}

// Without neighpin the spoofer has every connection of the pod.
func TestRowBridgeWithASpooferControl(t *testing.T) {
	var spoofer *liar
	spec := rowSpec{name: "bridge", control: true, before: func(t *testing.T, _ *rowRun) { spoofer = spoofedBridge(t) }}
	row(t, spec, func(t *testing.T, r *rowRun) {
		for _, target := range node.Targets()[:len(segmentGateways)] {
			if err := r.try(t, target); err == nil {
				t.Errorf("the pod reaches %s; that it does when pinned proves nothing", target)
			}
		}
		if r.gvisor {
			return // its table cannot be read
		}
		for _, gateway := range segmentGateways {
			if lladdr, states := r.kernelEntry(t, gateway); lladdr != spoofer.MAC() {
				t.Errorf("the kernel has %s %v for %s, want the spoofer's %s", lladdr, states, gateway, spoofer.MAC())
			}
		}
	})
}
