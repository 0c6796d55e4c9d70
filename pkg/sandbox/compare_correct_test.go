// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
)

// A process that ended between two of its writes, or before it recorded them, leaves an entry of which the record does not
// tell. In a namespace that a runtime has taken, the next process knows it by the mark.
func TestEntryThatNoRecordTellsOfIsCorrected(t *testing.T) {
	n := newNode(t)
	p := n.taken()
	n.engine.Close()
	p.IP("neigh replace " + gateway6 + " dev eth0 lladdr " + foreignMAC + " nud permanent protocol 177")
	n.outside.IP("link set veth0 address " + otherMAC)
	n.start()
	n.eventually("what was left to be true", func() bool { return strings.Contains(p.permanent(), gateway6+" dev eth0 lladdr "+otherMAC) })
	n.settled(podID)
	if rec := n.record(); rec.Error != "" || len(rec.Stale) != 2 {
		t.Errorf("record %+v", rec)
	}
	// And an untrue one goes where nothing is true any more.
	n.engine.Close()
	p.IP("neigh replace " + gateway6 + " dev eth0 lladdr " + foreignMAC + " nud permanent protocol 177")
	n.outside.IP("link add br0 type bridge", "link set veth0 master br0")
	t.Cleanup(func() { n.outside.IP("link del br0") })
	n.start()
	n.eventually("what was left to go", func() bool { return !strings.Contains(p.permanent(), gateway6+" ") })
}

// What went wrong when a sandbox was compared is over when a comparison succeeds, also in the record of an earlier process.
func TestErrorOfAComparisonIsOverWithTheNext(t *testing.T) {
	n := newNode(t)
	n.taken()
	n.engine.Close()
	rec, err := n.engine.records.Load(podID)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ was, is string }{
		{compareFailed + "release neighbor 10.88.0.1 on eth0: context deadline exceeded", ""},
		{"what happened when it started", "what happened when it started"},
	} {
		rec.Error = c.was
		if err := n.engine.records.Save(rec); err != nil {
			t.Fatal(err)
		}
		n.start()
		n.settled(podID)
		if got := n.record().Error; got != c.is {
			t.Errorf("error %q has become %q, want %q", c.was, got, c.is)
		}
		n.engine.Close()
	}
}

// And it takes nothing with it: what went wrong when the sandbox started is no better for a comparison that failed and one that did not.
func TestErrorOfAStartOutlivesThatOfAComparison(t *testing.T) {
	n := newNode(t)
	p := n.taken()
	n.engine.Close()
	rec, err := n.engine.records.Load(podID)
	if err != nil {
		t.Fatal(err)
	}
	rec.Error = "what happened when it started"
	if err := n.engine.records.Save(rec); err != nil {
		t.Fatal(err)
	}
	nstest.New(t).MountAt(p.rec.NetNSPath) // another one, in its place
	n.start()
	n.eventually("a comparison to fail", func() bool {
		return strings.HasPrefix(n.record().Error, rec.Error+"; "+compareFailed+"namespace ")
	})
	if err := nstest.Unmount(p.rec.NetNSPath); err != nil {
		t.Fatal(err)
	}
	n.eventually("the error of the start to be all", func() bool { return n.record().Error == rec.Error })
}

// It is over with the next comparison also where that has nothing to judge.
func TestErrorOfAComparisonEndsWhereNothingWasPinned(t *testing.T) {
	n := newNode(t)
	n.taken()
	n.engine.Close()
	rec, err := n.engine.records.Load(podID)
	if err != nil {
		t.Fatal(err)
	}
	rec.Neighbors, rec.Error = nil, compareFailed+"too many open files"
	if err := n.engine.records.Save(rec); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.eventually("the error to be over", func() bool { return n.record().ID != "" && n.record().Error == "" })
}
