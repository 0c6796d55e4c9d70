// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"slices"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// repairAll repairs one sandbox after another; the channel is closed when all
// have been looked at.
func (e *Engine) repairAll(sandboxes []*sandbox) <-chan struct{} {
	done := make(chan struct{})
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || len(sandboxes) == 0 {
		close(done)
		return done
	}
	e.wg.Go(func() {
		defer close(done)
		e.repairing.Lock() // two Synchronize at once would write the same record
		defer e.repairing.Unlock()
		for _, s := range sandboxes {
			if e.ctx.Err() == nil {
				e.repair(s)
			}
		}
	})
	return done
}

// repair pins again what a sandbox lost while nobody watched. A namespace that
// its runtime has taken has nothing to repair.
func (e *Engine) repair(s *sandbox) {
	rec := s.record()
	repaired, err := e.compare(s, rec)
	switch {
	case err != nil:
		e.fail(s, err)
	case repaired:
		e.save(s)
		e.report(Event{Kind: KindRepinned, Record: s.record()})
	}
}

func (e *Engine) compare(s *sandbox, rec Record) (repaired bool, err error) {
	ctx, cancel := context.WithTimeout(e.ctx, nriWait)
	defer cancel()
	ns, err := e.host.Open(rec.NetNS.Path)
	if err != nil {
		return false, nil // gone; its file's removal tells the rest
	}
	defer func() { _ = ns.Close() }()
	if ns.Cookie() != rec.NetNS.Cookie {
		return false, fmt.Errorf("namespace %s is not the one that was recorded: cookie %d, want %d", rec.NetNS.Path, ns.Cookie(), rec.NetNS.Cookie)
	}
	table, err := neighbor.Open(ns)
	if err != nil {
		return false, err
	}
	defer func() { _ = table.Close() }()
	found, err := table.Resolve(ctx, neighbor.Query{Known: rec.Neighbors, Limit: e.opts.MaxNeighbors})
	if err != nil || found.HandedOver {
		return false, err
	}
	// The pod runs: gateways that it made up since are none of the CNI's.
	if !rec.CapturedAt.IsZero() {
		found = rec.only(found)
	}
	written, err := Write(ctx, table, found)
	if err != nil || len(written.New) == 0 && rec.Error == "" {
		return false, err
	}
	s.update(func(r *Record) {
		r.capture(written)
		r.Repins++
	})
	return true, nil
}

// only leaves in a resolution what is about gateways that the record knows.
func (r Record) only(found neighbor.Resolution) neighbor.Resolution {
	known := make(map[pinKey]bool, len(r.Neighbors)+len(r.Skipped))
	for _, n := range r.Neighbors {
		known[keyOf(n)] = true
	}
	for _, skipped := range r.Skipped {
		known[pinKey{skipped.Dst.String(), skipped.Dev}] = true
	}
	found.Neighbors = slices.DeleteFunc(found.Neighbors, func(n neighbor.Neighbor) bool { return !known[keyOf(n)] })
	found.Skipped = slices.DeleteFunc(found.Skipped, func(n neighbor.Skipped) bool { return !known[pinKey{n.Dst.String(), n.Dev}] })
	return found
}
