// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
)

// Basis is what the answer to "is this sandbox as it should be" rests on: when
// something happens to one of these, it has to be asked again.
type Basis struct {
	NSID     int32        // the namespace, as this process's knows it
	Numbered bool         // that is known
	Links    []int        // outside the sandbox, see neighbor.Resolution.Basis
	Gateways []netip.Addr // whose holder outside matters, see neighbor.Resolution.Sought
	Unseen   bool         // its file was not there
}

// contains tells whether b rests on all that other rests on.
func (b Basis) contains(other Basis) bool {
	return (!other.Numbered || b.Numbered && b.NSID == other.NSID) &&
		!slices.ContainsFunc(other.Links, func(l int) bool { return !slices.Contains(b.Links, l) }) &&
		!slices.ContainsFunc(other.Gateways, func(a netip.Addr) bool { return !slices.Contains(b.Gateways, a) })
}

// wards are some sandboxes: the one that a link mostly leads to, or the many that a bridge
// has.
type wards struct {
	one  *Ward
	more map[*Ward]bool // instead of one, if there are several
}

func (ws wards) len() int {
	if ws.one != nil {
		return 1
	}
	return len(ws.more)
}

func (ws wards) all() iter.Seq[*Ward] {
	if ws.one != nil {
		return func(yield func(*Ward) bool) { yield(ws.one) }
	}
	return maps.Keys(ws.more)
}

func (ws wards) with(w *Ward) wards {
	switch {
	case ws.len() == 0:
		return wards{one: w}
	case ws.one == w:
		return ws
	case ws.one != nil:
		return wards{more: map[*Ward]bool{ws.one: true, w: true}}
	}
	ws.more[w] = true
	return ws
}

func without[K comparable](index map[K]wards, key K, w *Ward) {
	ws := index[key]
	delete(ws.more, w)
	if ws.one == w || ws.len() == 0 {
		delete(index, key)
	}
}

// rebase reports whether b is more than was known.
func (g *Guard) rebase(w *Ward, b Basis) (more bool) {
	if !b.Numbered {
		b.NSID, b.Numbered = w.basis.NSID, w.basis.Numbered
	}
	more = !w.basis.contains(b)
	g.unindex(w)
	w.basis = b
	if b.Numbered {
		if other := g.byNSID[b.NSID]; other != nil {
			g.renumber(other) // one of the two is gone, and a look tells which
		}
		g.byNSID[b.NSID] = w
	}
	for _, link := range b.Links {
		g.byLink[link] = g.byLink[link].with(w)
	}
	for _, gateway := range b.Gateways {
		g.byGateway[gateway] = g.byGateway[gateway].with(w)
	}
	return more
}

// renumber forgets a ward's number, which may be another namespace's by now: who
// has it is asked at the next look.
func (g *Guard) renumber(w *Ward) {
	delete(g.byNSID, w.basis.NSID)
	w.basis.Numbered = false
	g.mark(w, Event)
}

func (g *Guard) unindex(w *Ward) {
	if w.basis.Numbered && g.byNSID[w.basis.NSID] == w {
		delete(g.byNSID, w.basis.NSID)
	}
	for _, link := range w.basis.Links {
		without(g.byLink, link, w)
	}
	for _, gateway := range w.basis.Gateways {
		without(g.byGateway, gateway, w)
	}
}
