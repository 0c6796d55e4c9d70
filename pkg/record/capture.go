// SPDX-License-Identifier: Apache-2.0

package record

import (
	"maps"
	"slices"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// Capture takes over what was written. What is as it was keeps its time, and with
// it the annotation every byte.
func (r *Record) Capture(written neighbor.Written) {
	if r.CapturedAt.IsZero() || !equal(r.Neighbors, written.Neighbors, sameNeighbor) || !equal(r.Skipped, written.Skipped, sameSkipped) {
		r.CapturedAt = time.Now().UTC()
	}
	r.Neighbors, r.Skipped, r.Error = written.Neighbors, written.Skipped, ""
}

// LeadTo notes where links lead to; what is known of links that are away stays.
func (r *Record) LeadTo(ends map[string]int) {
	if maps.Equal(r.Ends, ends) || len(ends) == 0 {
		return
	}
	known := maps.Clone(r.Ends)
	if known == nil {
		known = make(map[string]int)
	}
	maps.Copy(known, ends)
	r.Ends = known
}

// TakeFrom takes over what another record of the sandbox says was captured.
func (r *Record) TakeFrom(old Record) {
	r.Neighbors, r.Skipped, r.CapturedAt, r.Timing = old.Neighbors, old.Skipped, old.CapturedAt, old.Timing
	r.Vacant, r.Stale, r.Doubts, r.Probes, r.Ends = old.Vacant, old.Stale, old.Doubts, old.Probes, old.Ends
	if len(old.Addresses) > 0 {
		r.Addresses, r.HostState, r.ReturnPath = old.Addresses, old.HostState, old.ReturnPath
	}
	r.Taken = r.Taken || old.Taken
}

// Concerns tells whether something that happened inside a sandbox which has
// started may have changed what the record says.
func (r Record) Concerns(ev neighbor.Event) bool {
	switch ev.Kind {
	case neighbor.NeighborChanged, neighbor.NeighborRemoved:
	default:
		return true
	}
	removed := ev.Kind == neighbor.NeighborRemoved
	pinned := false
	for _, n := range r.Neighbors {
		// Without the link's name, which such events lack, any gateway of that IP
		// address will do.
		if pinned = pinned || n.Dst == ev.Dst; !removed && n.Dst == ev.Dst && n.LLAddr == ev.LLAddr && ev.Permanent() {
			return false
		}
	}
	if pinned {
		return true
	}
	// Nothing stands there, and what dynamic entries come and go is the kernel's
	// business. A permanent one is somebody's, and it may be the reason.
	return (removed || ev.Permanent()) &&
		slices.ContainsFunc(r.Skipped, func(s neighbor.Skipped) bool { return s.Dst == ev.Dst })
}
