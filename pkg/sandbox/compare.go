// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
)

// compareTimeout bounds one comparison.
const compareTimeout = time.Second

// comparison is one look at a sandbox that has started: what its namespace and
// its record say, and what is true now.
type comparison struct {
	engine  *Engine
	sandbox *sandbox
	table   *neighbor.Table
	cause   guard.Cause
	before  record.Record
	after   record.Record // of which the fields that a comparison decides are used
	links   []int         // that the answer rests on
	sought  []netip.Addr

	looks     int
	heard     heard
	shared    *neighbor.Readings // of the host, with other comparisons
	written   bool               // entries were written
	untouched bool               // there was nothing to decide
	insists   []record.Change
}

// compare makes a sandbox that has started, and its record, agree with what is
// true now, and returns what that rests on. It is the only code that works on a
// sandbox after its life; the guard sees to it that one at a time does.
func (e *Engine) compare(s *sandbox, look guard.Look) (guard.Basis, error) {
	ctx, cancel := context.WithTimeout(e.ctx, compareTimeout)
	defer cancel()
	b := look.Basis
	c := &comparison{engine: e, sandbox: s, cause: look.Cause, before: s.record(), links: b.Links, sought: b.Gateways, shared: look.Readings}
	var err error
	c.table, err = neighbor.OpenAt(e.host, c.before.NetNS.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if c.before.Gone(ctx) {
			e.forget(s)
		}
		b.Unseen = true
		return b, nil // or out of sight
	case errors.Is(err, netns.ErrNotNamespace):
		return b, nil // gone; its file's removal tells the rest
	case err == nil && c.table.Cookie() != c.before.NetNS.Cookie:
		err = errors.Join(otherAt(c.before.NetNS, c.table.Cookie()), c.table.Close())
	}
	if err != nil {
		err = c.failure(err)
		e.failed(s, err)
		return b, err
	}
	if !b.Numbered {
		// Without a number its own events are not heard, and the slow comparison
		// has to do.
		err = e.inside(c.before, func(ns *netns.NS) (err error) {
			b.NSID, err = neighbor.NSID(ctx, ns)
			return err
		})
		b.Numbered = err == nil
	}
	c.heard = e.learned(s)
	err = errors.Join(c.judge(ctx), c.follow(ctx), c.table.Close())
	if e.ctx.Err() != nil {
		return b, nil // stopping, which is none of the sandbox's doing
	}
	if err != nil {
		err = c.failure(err)
	}
	switch {
	case !c.untouched:
		if err != nil {
			c.after.Error = err.Error()
		}
		c.conclude()
	case err != nil:
		s.update(func(r *record.Record) { r.LeadTo(c.after.Ends) })
		e.failed(s, err)
	}
	if err != nil {
		return b, err
	}
	e.observe(ctx, s)
	b.Links, b.Gateways, b.Unseen = c.links, c.sought, false
	return b, nil
}

// inside gives fn the recorded namespace, open, for the call.
func (e *Engine) inside(rec record.Record, fn func(*netns.NS) error) error {
	ns, err := e.host.Open(rec.NetNS.Path)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	if ns.Cookie() != rec.NetNS.Cookie {
		return otherAt(rec.NetNS, ns.Cookie())
	}
	return fn(ns)
}

// otherAt says that another namespace is at the path of one that was recorded.
func otherAt(n record.NetNS, cookie uint64) error {
	return fmt.Errorf("namespace %s is not the one that was recorded: cookie %d, want %d", n.Path, cookie, n.Cookie)
}

// failed is fail for what is tried again and again: it is said once.
func (e *Engine) failed(s *sandbox, err error) {
	if s.record().Error != err.Error() {
		e.fail(s, err)
	}
}

// judge finds out who holds the pod's network stack, and decides.
func (c *comparison) judge(ctx context.Context) error {
	ends := c.after.Ends // of a look before this one
	c.after, c.untouched = c.before, false
	c.after.LeadTo(ends)
	stack := c.sandbox.id.Stack()
	if !c.before.Taken && (stack != record.StackGuest || c.before.CapturedAt.IsZero()) {
		found, err := c.table.Resolve(ctx, neighbor.Query{
			Known: c.before.Neighbors, Limit: c.engine.opts.MaxNeighbors, Learned: c.heard.addresses,
			Running: true, Vacant: contestable(c.before), Shared: c.shared,
		})
		if err != nil {
			c.untouched = true
			return err
		}
		if !found.HandedOver {
			err := c.mend(ctx, found)
			if c.looks++; c.looks < maxLooks && c.linkWent(err) {
				c.shared = nil // or the link would still be there
				return c.judge(ctx)
			}
			return err
		}
	}
	if stack == record.StackKernel || len(c.before.Neighbors)+len(c.before.Stale) == 0 {
		// A pod that removed its addresses itself, or is coming to its end; or
		// one of which nothing was captured before its runtime took it.
		c.after.Error = lastingError(c.before)
		c.untouched = c.after.Error == c.before.Error
		return nil
	}
	return c.review(ctx)
}

// maxLooks is how often a namespace is looked at whose links go meanwhile.
const maxLooks = 3

// linkWent tells whether a known gateway's link went while it was looked at, to
// another namespace perhaps: what is there now tells what that means.
func (c *comparison) linkWent(err error) bool {
	known := gateways(record.Record{Neighbors: c.before.Neighbors})
	return errors.Is(err, unix.ENODEV) || slices.ContainsFunc(c.after.Skipped, func(s neighbor.Skipped) bool {
		return s.Reason == neighbor.ReasonLinkGone && known[s.Gateway()]
	})
}

// mend pins again what was lost or changed, and takes back what has no truth any
// more, in a namespace whose stack the pod uses.
//
// The gateways are those that CNI gave the pod. One that the pod made up since is
// none, and one whose route has gone is kept while its link is there: what the
// host says of it stays true, and its route may come back at any moment.
func (c *comparison) mend(ctx context.Context, found neighbor.Resolution) error {
	if !c.before.CapturedAt.IsZero() {
		found = only(c.before, found)
	}
	c.links, c.sought = found.Basis, found.Sought
	c.after.LeadTo(found.Ends)
	c.foreign(&found)
	kept, err := c.unrouted(ctx, &found)
	if err != nil {
		c.untouched = true
		return err
	}
	written, err := c.table.Write(ctx, found)
	c.written = c.written || len(written.New) > 0
	c.after.Neighbors = append(written.Neighbors, kept...)
	c.after.Skipped = written.Skipped
	c.after.Error = c.heard.failure
	c.after.Probes, c.after.Doubts, c.after.Skipped = c.heard.settle(c.before, c.after.Neighbors, c.after.Skipped, found.Unknown)
	present := gateways(c.after)
	for _, s := range c.before.Skipped {
		if !present[s.Gateway()] {
			c.after.Skipped = append(c.after.Skipped, s)
		}
	}
	keepVacant(&c.after, c.before)
	return err
}

// unrouted judges the gateways that are known and have no route at the moment,
// adds to found what is to be written, and returns what is to be left as it is.
func (c *comparison) unrouted(ctx context.Context, found *neighbor.Resolution) (kept []neighbor.Neighbor, err error) {
	routed := gateways(record.Record{Neighbors: found.Neighbors, Skipped: found.Skipped})
	var known []neighbor.Neighbor
	for _, n := range c.before.Neighbors {
		if !routed[n.Gateway()] {
			known = append(known, n)
		}
	}
	if len(known) == 0 {
		return nil, nil
	}
	now, err := c.table.Review(ctx, neighbor.Query{Known: known, Learned: c.heard.addresses, Ends: c.after.Ends, Shared: c.shared})
	if err != nil {
		return nil, err
	}
	c.links, c.sought = append(c.links, now.Basis...), append(c.sought, now.Sought...)
	c.after.LeadTo(now.Ends)
	for _, old := range known {
		n, reason := outcomeFor(old, now)
		switch {
		case reason.Reason == neighbor.ReasonLinkGone, n.Source == neighbor.SourceExisting:
			// The link may be in a namespace of the pod's own, too, and the last
			// that is known of its gateway is what is needed there.
			kept = append(kept, old)
		case reason.Reason != "":
			if _, err := c.table.Release(ctx, []neighbor.Neighbor{old}); err != nil {
				return nil, err
			}
			found.Skipped = append(found.Skipped, reason)
		case n.State == nil:
			// A program took the link into a namespace of its own. There is
			// nothing to write for us, and what is true is what it needs to know.
			old.LLAddr, old.Source = n.LLAddr, n.Source
			kept = append(kept, old)
		case n.Same(old), !n.Permanent():
			found.Neighbors = append(found.Neighbors, n)
		default:
			released, err := c.table.Release(ctx, []neighbor.Neighbor{old})
			if err != nil {
				return nil, err
			}
			if len(released) == 0 { // somebody's, which no route leads to
				kept = append(kept, old)
				continue
			}
			n.State = nil
			found.Neighbors = append(found.Neighbors, n)
		}
	}
	return kept, nil
}

// outcomeFor finds what a review says of one entry.
func outcomeFor(old neighbor.Neighbor, now neighbor.Resolution) (neighbor.Neighbor, neighbor.Skipped) {
	for _, n := range now.Neighbors {
		if n.Gateway() == old.Gateway() {
			return n, neighbor.Skipped{}
		}
	}
	for _, s := range now.Skipped {
		if s.Gateway() == old.Gateway() {
			return neighbor.Neighbor{}, s
		}
	}
	return neighbor.Neighbor{}, neighbor.Skipped{Dst: old.Dst, Dev: old.Dev, Reason: neighbor.ReasonLinkGone}
}

// only leaves in a resolution what is about gateways that the record knows, and their
// links: a pod can rename its links as often as it likes.
func only(r record.Record, found neighbor.Resolution) neighbor.Resolution {
	known := gateways(r)
	found.Neighbors = slices.DeleteFunc(found.Neighbors, func(n neighbor.Neighbor) bool { return !known[n.Gateway()] })
	found.Skipped = slices.DeleteFunc(found.Skipped, func(s neighbor.Skipped) bool { return !known[s.Gateway()] })
	found.Unknown = slices.DeleteFunc(found.Unknown, func(a neighbor.Ask) bool { return !known[a.Gateway()] })
	found.Ends = maps.Clone(found.Ends)
	maps.DeleteFunc(found.Ends, func(dev string, _ int) bool {
		for gateway := range known {
			if gateway.Dev == dev {
				return false
			}
		}
		return true
	})
	return found
}

// gateways are those that a record knows.
func gateways(r record.Record) map[neighbor.Gateway]bool {
	keys := make(map[neighbor.Gateway]bool, len(r.Neighbors)+len(r.Skipped))
	for _, n := range r.Neighbors {
		keys[n.Gateway()] = true
	}
	for _, s := range r.Skipped {
		keys[s.Gateway()] = true
	}
	return keys
}

// conclude records and reports what the comparison found.
func (c *comparison) conclude() {
	s := c.sandbox
	drifted := c.after.DriftedFrom(c.before)
	if !drifted && !c.written && c.before.Error == c.after.Error && c.after.AsksAs(c.before) && maps.Equal(c.before.Ends, c.after.Ends) {
		return
	}
	s.update(func(r *record.Record) {
		r.Neighbors, r.Skipped, r.Vacant, r.Stale = c.after.Neighbors, c.after.Skipped, c.after.Vacant, c.after.Stale
		r.Doubts, r.Probes, r.Error = c.after.Doubts, c.after.Probes, c.after.Error
		r.LeadTo(c.after.Ends)
		if drifted || r.CapturedAt.IsZero() {
			r.CapturedAt = time.Now().UTC()
		}
		if c.written {
			r.Repins++
		}
		if c.cause == guard.Slow && (drifted || c.written) {
			r.Missed++
		}
	})
	events := append(c.events(), heardSince(c.before, s.record())...)
	s.noteEvents(events)
	c.engine.save(s)
	c.engine.reportEach(s, events)
}
