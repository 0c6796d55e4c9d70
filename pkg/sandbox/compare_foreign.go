// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"slices"

	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// insistence is how often a pin is replaced until somebody else has its place.
const insistence = 3

// foreign judges entries that somebody in the sandbox put in the place of pins.
// They are drift and will be replaced; who does it again and again, with no quiet
// slow comparison in between, has the entry, and the gateway is given up. A slow
// comparison that finds the entry gone ends that.
func (c *comparison) foreign(found *neighbor.Resolution) {
	s := c.sandbox
	replaced := make(map[neighbor.Gateway]bool)
	givenUp := make(map[neighbor.Gateway]neighbor.Skipped)
	for _, o := range found.Outdated {
		was := c.displaced(o, *found)
		if was == "" {
			continue
		}
		replaced[o.Gateway()] = true
		if s.replaced == nil {
			s.replaced = make(map[neighbor.Gateway]int)
		}
		if s.replaced[o.Gateway()]++; s.replaced[o.Gateway()] < insistence {
			continue
		}
		given := neighbor.Skipped{Dst: o.Dst, Dev: o.Dev, Reason: record.ReasonInsists,
			Message: fmt.Sprintf("somebody in the sandbox put %s in the place of %s %d times", o.LLAddr, was, insistence)}
		givenUp[o.Gateway()] = given
		c.insists = append(c.insists, record.Change{Dst: o.Dst, Dev: o.Dev, Was: was,
			Now: trueAddress(*found, o.Gateway()), Reason: given.Reason, Message: given.Message})
	}
	if c.cause == guard.Slow {
		for key := range s.replaced {
			if !replaced[key] {
				delete(s.replaced, key)
			}
		}
	}
	for _, old := range c.before.Skipped {
		if old.Reason != record.ReasonInsists {
			continue
		}
		if c.cause != guard.Slow || trueAddress(*found, old.Gateway()) == "" {
			givenUp[old.Gateway()] = old
		}
	}
	if len(givenUp) == 0 {
		return
	}
	gone := func(key neighbor.Gateway) bool { _, ok := givenUp[key]; return ok }
	found.Neighbors = slices.DeleteFunc(found.Neighbors, func(n neighbor.Neighbor) bool { return gone(n.Gateway()) })
	found.Outdated = slices.DeleteFunc(found.Outdated, func(n neighbor.Neighbor) bool { return gone(n.Gateway()) })
	found.Skipped = slices.DeleteFunc(found.Skipped, func(s neighbor.Skipped) bool { return gone(s.Gateway()) })
	for _, given := range givenUp {
		found.Skipped = append(found.Skipped, given)
	}
}

// trueAddress is what a resolution says of a gateway, or empty.
func trueAddress(found neighbor.Resolution, key neighbor.Gateway) neighbor.HardwareAddr {
	for _, n := range found.Neighbors {
		if n.Gateway() == key {
			return n.LLAddr
		}
	}
	return ""
}
