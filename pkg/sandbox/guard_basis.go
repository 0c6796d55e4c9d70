// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
)

// basis is what the answer to "is this sandbox as it should be" rests on: when
// something happens to one of these, it has to be asked again.
type basis struct {
	nsid     int32        // the namespace, as this process's knows it; numbered says whether that is known
	numbered bool         //
	links    []int        // outside the sandbox, see neighbor.Resolution.Basis
	gateways []netip.Addr // whose holder outside matters, see neighbor.Resolution.Sought
	unseen   bool         // its file was not there
}

// contains tells whether b rests on all that other rests on.
func (b basis) contains(other basis) bool {
	return (!other.numbered || b.numbered && b.nsid == other.nsid) &&
		!slices.ContainsFunc(other.links, func(l int) bool { return !slices.Contains(b.links, l) }) &&
		!slices.ContainsFunc(other.gateways, func(a netip.Addr) bool { return !slices.Contains(b.gateways, a) })
}

// wards are some sandboxes: the one that a link mostly leads to, or the many that a bridge
// has.
type wards struct {
	one  *ward
	more map[*ward]bool // instead of one, if there are several
}

func (ws wards) len() int {
	if ws.one != nil {
		return 1
	}
	return len(ws.more)
}

func (ws wards) all() iter.Seq[*ward] {
	if ws.one != nil {
		return func(yield func(*ward) bool) { yield(ws.one) }
	}
	return maps.Keys(ws.more)
}

func (ws wards) with(w *ward) wards {
	switch {
	case ws.len() == 0:
		return wards{one: w}
	case ws.one == w:
		return ws
	case ws.one != nil:
		return wards{more: map[*ward]bool{ws.one: true, w: true}}
	}
	ws.more[w] = true
	return ws
}

func without[K comparable](index map[K]wards, key K, w *ward) {
	ws := index[key]
	delete(ws.more, w)
	if ws.one == w || ws.len() == 0 {
		delete(index, key)
	}
}

// rebase reports whether b is more than was known.
func (g *guard) rebase(w *ward, b basis) (more bool) {
	if !b.numbered {
		b.nsid, b.numbered = w.basis.nsid, w.basis.numbered
	}
	more = !w.basis.contains(b)
	g.unindex(w)
	w.basis = b
	if b.numbered {
		if other := g.byNSID[b.nsid]; other != nil {
			g.renumber(other) // one of the two is gone, and a look tells which
		}
		g.byNSID[b.nsid] = w
	}
	for _, link := range b.links {
		g.byLink[link] = g.byLink[link].with(w)
	}
	for _, gateway := range b.gateways {
		g.byGateway[gateway] = g.byGateway[gateway].with(w)
	}
	return more
}

// renumber forgets a ward's number, which may be another namespace's by now: who
// has it is asked at the next look.
func (g *guard) renumber(w *ward) {
	delete(g.byNSID, w.basis.nsid)
	w.basis.numbered = false
	g.mark(w, event)
}

func (g *guard) unindex(w *ward) {
	if w.basis.numbered && g.byNSID[w.basis.nsid] == w {
		delete(g.byNSID, w.basis.nsid)
	}
	for _, link := range w.basis.links {
		without(g.byLink, link, w)
	}
	for _, gateway := range w.basis.gateways {
		without(g.byGateway, gateway, w)
	}
}
