// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/internal/guard"
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

// No pod of the node starts until Synchronize is answered: very many sandboxes of an earlier process wait for that.
func TestSynchronizeLetsTheComparisonsOfManyBegin(t *testing.T) {
	n := newNode(t)
	n.engine.Close()
	e := n.prepared()
	t.Cleanup(e.Close)
	opts := e.guardOptions()
	opts.HoldFor = time.Hour
	e.guard = guard.New(opts)
	for i := range takeOverMany + 1 {
		path := filepath.Join(n.netnsDir, fmt.Sprint("gone", i))
		s := newSandbox(e, record.Identity{ID: fmt.Sprint(i), NetNSPath: path})
		s.rec.NetNS = record.NetNS{Path: path, Cookie: 1}
		s.finish()
		e.guard.Take(s.ward, guard.Takeover)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	if !e.guard.Holding() {
		t.Fatal("nothing waits")
	}
	e.TakeOver(t.Context(), nil)
	if e.guard.Holding() {
		t.Error("they wait although the runtime has told")
	}
}
