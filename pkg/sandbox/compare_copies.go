// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// compareFailed begins what is said of a comparison that failed: the next that
// succeeds ends it.
const compareFailed = "compare with what is true now: "

// failure is the error of a comparison, behind what went wrong before: no comparison makes that good.
func (c *comparison) failure(err error) error {
	if lasting := lastingError(c.before); lasting != "" {
		return fmt.Errorf("%s; "+compareFailed+"%w", lasting, err)
	}
	return fmt.Errorf(compareFailed+"%w", err)
}

// lastingError is a record's error without what a comparison that failed added.
func lastingError(r record.Record) string {
	before, _, _ := strings.Cut(r.Error, compareFailed)
	return strings.TrimSuffix(before, "; ")
}

// review compares what a runtime copied with what is true now. The copy is out of
// reach: what differs is recorded as stale and reported. Neighbors then has what
// is true now, and so do the annotation and the live file of containers to come:
// they are the truth for who reads them, and what the sandbox itself copied is in
// the record.
//
// The entries of ours that a runtime leaves in the namespace (gVisor takes the
// IPv6 addresses, whose entries stay; Kata takes nothing) are corrected, although
// no stack uses them: who reads them there expects to read the truth. What is
// gone is not put back.
func (c *comparison) review(ctx context.Context) error {
	copied := c.before.Copied()
	now, err := c.table.Review(ctx, neighbor.Query{Known: copied, Learned: c.heard.addresses, Shared: c.shared})
	if err != nil {
		c.untouched = true
		return err
	}
	c.links, c.sought = now.Basis, now.Sought
	c.after.LeadTo(now.Ends)
	c.after.Error = lastingError(c.before)
	c.after.Neighbors, c.after.Stale = nil, nil
	c.after.Skipped = slices.DeleteFunc(slices.Clone(c.before.Skipped), func(s neighbor.Skipped) bool {
		return slices.ContainsFunc(copied, func(n neighbor.Neighbor) bool { return n.Gateway() == s.Gateway() })
	})
	for _, was := range copied {
		n, reason := outcomeFor(was, now)
		switch {
		case reason.Reason == neighbor.ReasonLinkGone:
			c.keep(was) // the sandbox comes to its end
		case reason.Reason != "":
			c.after.Skipped = append(c.after.Skipped, reason)
			c.stale(was, "", reason.Reason)
		case n.LLAddr == was.LLAddr:
			c.after.Neighbors = append(c.after.Neighbors, was)
		default:
			c.after.Neighbors = append(c.after.Neighbors, n)
			c.stale(was, n.LLAddr, "")
		}
	}
	// Whoever else comes to answer comes too late.
	c.after.Probes, c.after.Doubts, c.after.Skipped = c.heard.settle(c.before, c.after.Neighbors, c.after.Skipped, nil)
	return c.correct(ctx, now.Outdated)
}

// stale notes a copy that is not true.
func (c *comparison) stale(was neighbor.Neighbor, now neighbor.HardwareAddr, reason neighbor.Reason) {
	since := time.Now().UTC()
	if i := slices.IndexFunc(c.before.Stale, func(s record.Stale) bool { return s.Gateway() == was.Gateway() }); i >= 0 {
		since = c.before.Stale[i].Since
	}
	c.after.Stale = append(c.after.Stale, record.Stale{Dst: was.Dst, Dev: was.Dev, Copied: was.LLAddr, Source: was.Source,
		LLAddr: now, Reason: reason, Since: since})
}

// keep leaves everything about one gateway as it was.
func (c *comparison) keep(was neighbor.Neighbor) {
	for _, n := range c.before.Neighbors {
		if n.Gateway() == was.Gateway() {
			c.after.Neighbors = append(c.after.Neighbors, n)
		}
	}
	for _, s := range c.before.Stale {
		if s.Gateway() == was.Gateway() {
			c.after.Stale = append(c.after.Stale, s)
		}
	}
	for _, s := range c.before.Skipped {
		if s.Gateway() == was.Gateway() {
			c.after.Skipped = append(c.after.Skipped, s)
		}
	}
}

// correct gives entries that are still there, ours and outdated, the address of now.
func (c *comparison) correct(ctx context.Context, outdated []neighbor.Neighbor) error {
	for _, old := range outdated {
		released, err := c.table.Release(ctx, []neighbor.Neighbor{old})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(c.after.Neighbors, func(n neighbor.Neighbor) bool { return n.Gateway() == old.Gateway() })
		if i < 0 || len(released) == 0 {
			continue
		}
		if err := c.table.Pin(ctx, c.after.Neighbors[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// copies tells which copies stopped being true, or are untrue in another way than
// before, and which are true again.
func (c *comparison) copies() (stale, fresh []record.Change) {
	for _, s := range c.after.Stale {
		if !slices.ContainsFunc(c.before.Stale, func(o record.Stale) bool { return o.Same(s) }) {
			stale = append(stale, change(s))
		}
	}
	for _, s := range c.before.Stale {
		if !slices.ContainsFunc(c.after.Stale, func(o record.Stale) bool { return o.Gateway() == s.Gateway() }) {
			again := change(s)
			again.Now, again.Reason = s.Copied, ""
			fresh = append(fresh, again)
		}
	}
	return stale, fresh
}

// change is what became of one copy.
func change(s record.Stale) record.Change {
	return record.Change{Dst: s.Dst, Dev: s.Dev, Was: s.Copied, Now: s.LLAddr, Reason: s.Reason}
}
