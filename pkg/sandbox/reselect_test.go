// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"testing"

	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// A new selection counts for pods that start from then on. One that runs with its
// pins keeps them, and one that runs without is not touched.
func TestANewSelectionCountsForPodsThatStart(t *testing.T) {
	n := newNode(t)
	pinned := n.taken()
	left := n.newPodAs("left", "dev", typeRunc)
	n.veth(left.NS, "veth1")
	left.IP("address add 10.88.0.3/24 dev eth0", "route add default via "+gateway4)
	left.listed().ready()
	n.eventually("the other pod to be left alone", func() bool { _, known := n.engine.find("left"); return known })

	n.selects("dev")
	n.engine.SandboxStarted(t.Context(), identify(left.rec))
	n.engine.TakeOver(t.Context(), []record.Identity{identify(pinned.rec), identify(left.rec)})
	if got := left.permanent(); got != "" {
		t.Errorf("the pod that ran already was pinned: %s", got)
	}
	if rec := n.record(); len(rec.Neighbors) != 2 || n.engine.ContainerCreating(t.Context(), podID) == "" {
		t.Errorf("the pod that was pinned is not what it was: %+v", rec)
	}
	for id, want := range map[string]bool{"late-dev": true, "late-runsc": false} {
		next := n.newPodAs(id, id[len("late-"):], typeRunc)
		n.veth(next.NS, "v"+id[len("late-"):])
		next.IP("address add 10.88.0.4/24 dev eth0", "route add default via "+gateway4)
		next.listed().ready()
		n.started(identify(next.rec))
		if got := next.permanent() != ""; got != want {
			t.Errorf("%s: pinned %t, want %t", id, got, want)
		}
	}
}

func TestASelectionThatCannotBeMeantIsRefused(t *testing.T) {
	n := newNode(t)
	if err := n.engine.SetSelection(selection.Rules{Handlers: []string{"["}, PodAnnotations: selection.Allow}); err == nil {
		t.Error("no error")
	}
	n.taken() // by the selection that was there before
}
