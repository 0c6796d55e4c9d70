// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"slices"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// vacate notes in whose place nobody has an entry, of the gateways that have no pin
// now. Before the sandbox's programs run the tables tell.
func vacate(r *record.Record) {
	r.Vacant = skippedWhere(*r, func(s neighbor.Skipped) bool { return s.Dst.IsValid() && !owned(s.Reason) })
}

// keepVacant is vacate for a sandbox whose programs run. Only what is known from before
// they did counts: a place that was vacant, or had a pin of ours, since there was no
// owner where we pinned.
func keepVacant(r *record.Record, before record.Record) {
	r.Vacant = skippedWhere(*r, func(s neighbor.Skipped) bool {
		return slices.Contains(before.Vacant, s.Gateway()) ||
			slices.ContainsFunc(before.Owned(), func(n neighbor.Neighbor) bool { return n.Gateway() == s.Gateway() })
	})
}

// skippedWhere are the gateways without a pin of which something holds.
func skippedWhere(r record.Record, holds func(neighbor.Skipped) bool) (list []neighbor.Gateway) {
	for _, s := range r.Skipped {
		if holds(s) {
			list = append(list, s.Gateway())
		}
	}
	return list
}

// owned tells whether somebody's entry is, or may be, the reason.
func owned(reason neighbor.Reason) bool {
	return reason == neighbor.ReasonContested || reason == neighbor.ReasonInvalidEntry || reason == neighbor.ReasonUnowned || reason == neighbor.ReasonPinFailed
}

// contestable are the vacant places but those that somebody insists on.
func contestable(r record.Record) []neighbor.Gateway {
	return slices.DeleteFunc(slices.Clone(r.Vacant), func(g neighbor.Gateway) bool {
		return skippedFor(r, g) == record.ReasonInsists
	})
}

// skippedFor is why a gateway has no pin; empty when it has one or is not known.
func skippedFor(r record.Record, key neighbor.Gateway) neighbor.Reason {
	for _, s := range r.Skipped {
		if s.Gateway() == key {
			return s.Reason
		}
	}
	return ""
}

// displaced is the address in whose place somebody put an entry that was found
// outdated: the pin's or, where a place was vacant, the one that is true now. It is
// empty for an entry of our own.
func (c *comparison) displaced(o neighbor.Neighbor, found neighbor.Resolution) neighbor.HardwareAddr {
	for _, n := range c.before.Neighbors {
		if n.Gateway() == o.Gateway() {
			if n.LLAddr == o.LLAddr {
				return ""
			}
			return n.LLAddr
		}
	}
	// Where a pin could not be replaced it may be ours that stands there.
	if !slices.Contains(c.before.Vacant, neighbor.Gateway{Dst: o.Dst, Dev: o.Dev}) || skippedFor(c.before, o.Gateway()) == neighbor.ReasonPinFailed {
		return ""
	}
	return trueAddress(found, o.Gateway())
}
