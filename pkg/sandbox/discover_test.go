// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/netns"
)

// busyStore has the engine wait for the answer to a list that a first pod led to, which it may have once.
func busyStore(t *testing.T) (n *node, let func()) {
	t.Helper()
	n = newNode(t)
	n.eventually("the engine to ask at its start", func() bool { return n.store.listed() == 1 })
	let = n.store.letOne()
	n.newPodAs("a", "runsc", typeGVisor).listed()
	n.eventually("the list to be asked for", func() bool { return n.store.listed() == 2 })
	return n, let
}

func (n *node) awaitKnown(id string) {
	n.t.Helper()
	n.eventually("pod "+id+" to be known", func() bool { return n.recordOf(id).ID == id })
}

// Where many pods start at once the store answers late: each answer serves all that it names.
func TestOneAnswerServesThePodsThatStartWhileItIsWaitedFor(t *testing.T) {
	n, let := busyStore(t)
	for i := range 20 {
		n.newPodAs(fmt.Sprintf("b%d", i), "runsc", typeGVisor).listed()
	}
	let() // and no other list is answered
	n.awaitKnown("a")
	for i := range 20 {
		n.awaitKnown(fmt.Sprintf("b%d", i))
	}
}

// What the kernel tells of a namespace's file may come after the answer that names it.
func TestARecordThatComesBeforeItsNamespaceIsKept(t *testing.T) {
	n := newNode(t)
	n.engine.Close()
	n.engine = n.prepared() // it does not listen: what it hears is said here
	t.Cleanup(func() { n.engine.Close() })
	p := n.newPod("runsc", typeGVisor)
	stopped := p.rec
	stopped.ID, stopped.NetNSPath = "stopped", p.rec.NetNSPath+"-gone"
	find := newSearch()
	n.engine.answered(&find, listing{records: []containerd.Record{stopped, p.rec}})
	if rec := n.record(); rec.ID != "" || len(find.ahead) != 1 {
		t.Fatalf("%d records are kept, and %+v is known", len(find.ahead), rec)
	}
	n.engine.noticed(&find, netns.Event{Path: p.rec.NetNSPath, Op: netns.Added, New: true})
	if rec := n.record(); rec.ID != podID || len(find.pending)+len(find.ahead) != 0 {
		t.Errorf("%+v is known, %d wait", rec, len(find.pending))
	}
	// One that was kept for long may be of another pod's past.
	find.ahead = []named{{record: p.rec, at: time.Now().Add(-2 * aheadFor)}}
	n.engine.noticed(&find, netns.Event{Path: p.rec.NetNSPath + "-again", Op: netns.Added, New: true})
	if len(find.pending) != 1 || len(find.ahead) != 0 {
		t.Errorf("%d wait, %d are kept", len(find.pending), len(find.ahead))
	}
}
