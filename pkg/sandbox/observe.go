// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"net/netip"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
)

// Observer counts what sandboxes ask for on the wire. Its methods are called from
// several goroutines.
type Observer interface {
	// Observe begins to count at links of the host, by their numbers, or goes on
	// with others. For each link it is given the addresses that are told from the
	// rest: true for a pinned gateway, false for one that the engine itself asks
	// for by way of the sandbox's link. leads tells whether a link is the other end
	// of one of the sandbox's at that moment.
	Observe(id string, ends map[int]map[netip.Addr]bool, leads func(end int) (bool, error)) error
	// Forget ends the counting for a sandbox.
	Forget(id string)
	// Observed is what was counted, and since when; the zero time stands for not
	// at all.
	Observed(id string) (gateways, others uint64, since time.Time)
}

// observe has a sandbox observed that was just compared. A failure is told once;
// it has nothing to do with the pins.
func (e *Engine) observe(ctx context.Context, s *sandbox) {
	if e.opts.Observer == nil {
		return
	}
	rec := s.record()
	err := e.opts.Observer.Observe(rec.ID, endsToObserve(rec), func(end int) (leads bool, err error) {
		err = e.inside(rec, func(ns *netns.NS) (err error) {
			leads, err = neighbor.LeadsInto(ctx, end, ns)
			return err
		})
		return leads, err
	})
	e.mu.Lock()
	lives := e.sandboxes[rec.ID] == s
	e.mu.Unlock()
	if !lives { // it was forgotten meanwhile, perhaps before Observe
		e.opts.Observer.Forget(rec.ID)
		return
	}
	said := s.unobserved
	if s.unobserved = ""; err != nil {
		s.unobserved = err.Error()
	}
	if s.unobserved != "" && s.unobserved != said {
		e.report(record.Event{Kind: record.KindUnobserved, Record: rec, Err: err})
	}
}

// unobserve ends the observing of a sandbox that the engine does not know any more.
func (e *Engine) unobserve(s *sandbox) {
	if e.opts.Observer != nil {
		e.opts.Observer.Forget(s.id.ID)
	}
}

// observed is what the status says of a sandbox: its record, and what was counted.
func (e *Engine) observed(rec record.Record) record.Record {
	if e.opts.Observer == nil {
		return rec
	}
	if gateways, others, since := e.opts.Observer.Observed(rec.ID); !since.IsZero() {
		rec.Observed = &record.Observed{Gateways: gateways, Others: others, Since: since}
	}
	return rec
}

// endsToObserve are the other ends of the links by which the sandbox has gateways,
// with what is told from the rest at each. A gateway that we ask for ourselves, in
// the sandbox's place and by way of its link, cannot be told from one that the
// sandbox asks for.
func endsToObserve(r record.Record) map[int]map[netip.Addr]bool {
	ends := make(map[int]map[netip.Addr]bool)
	at := func(dev string) map[netip.Addr]bool {
		end, ok := r.Ends[dev]
		if ok && ends[end] == nil {
			ends[end] = make(map[netip.Addr]bool)
		}
		return ends[end]
	}
	for _, s := range r.Skipped {
		at(s.Dev)
	}
	for _, n := range r.Neighbors {
		if targets := at(n.Dev); targets != nil {
			targets[n.Dst] = true
		}
	}
	for _, ask := range r.Probes {
		if targets := at(ask.Dev); targets != nil {
			targets[ask.Dst] = false
		}
	}
	return ends
}
