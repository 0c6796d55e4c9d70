// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// Heard takes what happened in this process's namespace and in all that have a
// number in it, and reports whether any of it led to something.
func (g *Guard) Heard(events []neighbor.HostEvent) (concerns bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, ev := range events {
		g.readings.outdate(ev)
		switch ev.Kind {
		case neighbor.Overrun:
			concerns = true
			g.sweep()
			continue
		case neighbor.NamespaceGone:
			delete(g.strangers, ev.NSID)
			if w := g.byNSID[ev.NSID]; w != nil {
				g.renumber(w)
			}
			continue
		}
		if w := g.byNSID[ev.NSID]; w != nil {
			concerns = g.happened(w, ev.Event) || concerns
			continue
		}
		concerned := g.byGateway[ev.Dst]
		switch ev.Kind {
		case neighbor.LinkChanged, neighbor.LinkRemoved:
			concerned = g.byLink[ev.Index]
		case neighbor.AddrAdded, neighbor.AddrRemoved:
		default:
			continue
		}
		if concerned.len() == 0 || !g.trusts(ev.NSID) {
			continue
		}
		concerns = true
		cause := Event
		if concerned.len() > Workers {
			cause = Resync // so that what happens to a single one need not wait for all of them
		}
		for w := range concerned.all() {
			g.mark(w, cause)
		}
	}
	return concerns
}

// trusts tells whether an event from a namespace may have sandboxes compared that
// are not in it. Other ends can be in namespaces that are neither the host's nor a
// sandbox's, and their numbers are all that can be matched; but somebody who gives
// a link of his own the right number must not use up the time of others.
func (g *Guard) trusts(nsid int32) bool {
	if nsid == neighbor.HostNSID {
		return true
	}
	p := g.strangers[nsid]
	if p == nil {
		p = &Pace{}
		g.strangers[nsid] = p
	}
	now := time.Now()
	if p.Wait(now) > 0 {
		return false
	}
	p.Spend(now, strangerCost)
	return true
}

// happened takes what happened in a sandbox, and reports whether that led to something.
//
// While a sandbox is looked at it can not be told what concerns it: most of what then
// happens there is what the look itself writes, and its record does not say so yet. So
// that is decided when the look has ended.
func (g *Guard) happened(w *Ward, ev neighbor.Event) bool {
	switch {
	case w.nudge != nil: // the goroutine of its life hears that by itself
		return false
	case w.look != nil && len(w.look.during) < maxDuring:
		w.look.during = append(w.look.during, ev)
		return true
	case w.look == nil && !w.subject.ConcernedBy(ev):
		return false
	}
	g.mark(w, Event)
	return true
}
