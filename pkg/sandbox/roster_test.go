// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"slices"
	"testing"

	"github.com/neighpin/neighpin/pkg/record"
)

func fullRoster(count int) (r roster, all []*sandbox) {
	r = newRoster()
	for i := range count {
		s := newSandbox(nil, record.Identity{ID: fmt.Sprintf("s%d", i), NetNSPath: fmt.Sprintf("/var/run/netns/cni-%d", i)})
		r.keep(s)
		r.pass(fmt.Sprintf("i%d", i), fmt.Sprintf("/var/run/netns/other-%d", i))
		all = append(all, s)
	}
	return r, all
}

// A namespace comes or goes for each pod: what that costs must not grow with the others.
// Allocations stand for the work, since a goroutine that goes through all makes a list.
func TestWhatANamespaceCostsDoesNotDependOnHowManyThereAre(t *testing.T) {
	cost := func(count int) float64 {
		r, all := fullRoster(count)
		r.ids()
		return testing.AllocsPerRun(100, func() {
			s := all[count/2]
			if !r.owned("/run/netns/cni-1") || !r.owned("/run/netns/other-1") || r.owned("/run/netns/cni") {
				t.Fatal("owned by nobody, or by somebody")
			}
			if len(r.files.all(s.id.NetNSPath)) != 1 || !r.drop(s) || r.owned(s.id.NetNSPath) {
				t.Fatal("not found, or still there")
			}
			r.keep(s)
		})
	}
	few, many := cost(10), cost(10000)
	t.Logf("%v allocations among 10, %v among 10000", few, many)
	if many > few {
		t.Errorf("%v allocations among 10000, %v among 10", many, few)
	}
}

// The store is asked again and again while a namespace is pending, with the same ids.
func TestKnownIDsAreListedOnce(t *testing.T) {
	r, all := fullRoster(1000)
	if n := len(r.ids()); n != 2000 {
		t.Fatalf("%d ids", n)
	}
	if allocs := testing.AllocsPerRun(10, func() { r.ids() }); allocs != 0 {
		t.Errorf("%v allocations for a list that has not changed", allocs)
	}
	before := r.ids()
	r.drop(all[0])
	r.unpass("i0")
	if ids := r.ids(); len(ids) != 1998 || slices.Contains(ids, "s0") || !slices.Contains(before, "s0") {
		t.Errorf("%d ids, with that of one that has gone: %v", len(ids), slices.Contains(ids, "s0"))
	}
}

// Several can have files of one name: what an earlier process left, and what there is now.
func TestSeveralSandboxesMayHaveOneFile(t *testing.T) {
	r := newRoster()
	path := "/var/run/netns/cni-1"
	orphan, now, other := newSandbox(nil, record.Identity{ID: "a", NetNSPath: path}), newSandbox(nil, record.Identity{ID: "b", NetNSPath: "/run/netns/cni-1"}), newSandbox(nil, record.Identity{ID: "c", NetNSPath: path})
	r.orphan(orphan)
	if r.owned(path) {
		t.Error("one that has not been met has it")
	}
	r.keep(now)
	r.keep(other)
	if got := r.files.all(path); len(got) != 3 || !r.owned(path) {
		t.Errorf("%d have it", len(got))
	}
	if !r.met(orphan) || r.met(orphan) || !r.drop(now) || r.drop(now) {
		t.Error("they go once each")
	}
	if got := r.files.all(path); len(got) != 1 || got[0] != other {
		t.Errorf("%d have it at last", len(got))
	}
	again := newSandbox(nil, record.Identity{ID: "c", NetNSPath: "/var/run/netns/cni-2"})
	r.keep(again) // under an id that was there
	if len(r.files.all(path)) != 0 || !r.owned(again.id.NetNSPath) {
		t.Error("the file is that of the one before")
	}
	r.orphan(orphan)
	r.keep(orphan) // the one that was recorded is met
	if len(r.orphans) != 0 || len(r.files.all(path)) != 1 {
		t.Errorf("%d orphans, %d have the file", len(r.orphans), len(r.files.all(path)))
	}
}

// At the start all namespaces of a node are pending at once.
func TestTheYoungestNamespaceIsFoundWithoutGoingThroughAll(t *testing.T) {
	find := newSearch()
	for i := range 1000 {
		find.add(fmt.Sprintf("/run/netns/%d", i), true)
	}
	youngest := find.pending["/run/netns/999"].at
	if got := find.youngest(); !got.Equal(youngest) {
		t.Errorf("%v, want %v", got, youngest)
	}
	for i := range 999 {
		find.drop(fmt.Sprintf("/run/netns/%d", 999-i))
	}
	if got := find.youngest(); !got.Equal(find.pending["/run/netns/0"].at) || len(find.order) != 1 {
		t.Errorf("%v, and %d are remembered", got, len(find.order))
	}
	find.drop("/run/netns/0")
	if !find.youngest().IsZero() || len(find.order)+len(find.names.one) != 0 {
		t.Error("something is left")
	}
}
