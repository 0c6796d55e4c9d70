// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"

	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// A container that is created while NRI is away, as when containerd restarts, is
// told by nobody; the next Synchronize lists it.
func TestFirstContainerThatCameWhileNRIWasAway(t *testing.T) {
	n := newNode(t)
	p := n.newPod("", typeRunc)
	p.rec.Annotations = map[string]string{selection.PinAnnotation: "true"}
	p.listed().cni().ready()
	n.awaitPinned()
	n.engine.ContainerThere(podID)
	n.engine.ContainerThere("another")
	n.awaitVerdict(record.Unproven)
	n.settled(podID)
	p.IP("neigh del " + gateway4 + " dev eth0")
	n.eventually("the guard to put the pin back", func() bool { return strings.Count(p.permanent(), "PERMANENT") == 2 })
	n.engine.ContainerCreating(t.Context(), podID)
	if rec := n.record(); rec.Phase != record.Started || rec.Timing.Verdict != record.Unproven {
		t.Errorf("record %+v", rec)
	}
}
