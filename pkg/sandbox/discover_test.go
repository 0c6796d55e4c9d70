// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"testing"
)

// busyStore has the engine wait for the answer to a list that a first pod led to, which it may have once.
func busyStore(t *testing.T) (n *node, first *pod, let func()) {
	t.Helper()
	n = newNode(t)
	n.eventually("the engine to ask at its start", func() bool { return n.store.listed() == 1 })
	let = n.store.letOne()
	first = n.newPodAs("a", "runsc", typeGVisor).listed()
	n.eventually("the list to be asked for", func() bool { return n.store.listed() == 2 })
	return n, first, let
}

func (n *node) awaitKnown(id string) {
	n.t.Helper()
	n.eventually("pod "+id+" to be known", func() bool { return n.recordOf(id).ID == id })
}

// Where many pods start at once the store answers late: each answer serves all that it names.
func TestOneAnswerServesThePodsThatStartWhileItIsWaitedFor(t *testing.T) {
	n, _, let := busyStore(t)
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
	n, first, let := busyStore(t)
	ahead := first.rec
	ahead.ID, ahead.NetNSPath = "b", n.netnsDir+"/cni-b"
	n.store.put(ahead)
	let() // and no other list is answered
	n.awaitKnown("a")
	n.newPodAs("b", "runsc", typeGVisor)
	n.awaitKnown("b")
}
