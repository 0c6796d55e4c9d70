// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// ReasonPinFailed says that the kernel, or a foreign entry that came in between,
// refused a pin. It joins the reasons of package neighbor.
const ReasonPinFailed neighbor.Reason = "PinFailed"

// Written is the outcome of [Write].
type Written struct {
	// Neighbors are all that are permanent now, in that state.
	Neighbors []neighbor.Neighbor
	// Skipped are those that are not, of the resolution and of the writing.
	Skipped []neighbor.Skipped
	// New counts the entries that had to be written.
	New int
}

// Write pins what a resolution found and the table does not hold yet, and
// releases pins of ours for which there is no truth any more. One entry that
// cannot be pinned costs no other: it is skipped, and the error names it beside
// a valid outcome.
func Write(ctx context.Context, table *neighbor.Table, found neighbor.Resolution) (Written, error) {
	missing, untrue := toWrite(found)
	out := Written{Skipped: found.Skipped}
	failed := make(map[pinKey]bool)
	_, releaseErr := table.Release(ctx, untrue)
	err := table.Pin(ctx, missing)
	if err != nil {
		differences, verifyErr := table.Verify(ctx, missing)
		if verifyErr != nil {
			return Written{}, verifyErr
		}
		for _, d := range differences {
			failed[pinKey{d.Dst.String(), d.Dev}] = true
			out.Skipped = append(out.Skipped, neighbor.Skipped{Dst: d.Dst, Dev: d.Dev, Reason: ReasonPinFailed, Message: err.Error()})
		}
	}
	out.New = len(missing) - len(failed)
	for _, n := range found.Neighbors {
		if !failed[keyOf(n)] {
			n.State = []string{annotation.StatePermanent}
			out.Neighbors = append(out.Neighbors, n)
		}
	}
	return out, errors.Join(err, releaseErr)
}

// toWrite splits a resolution: what is to be pinned, and what is to go.
func toWrite(found neighbor.Resolution) (missing, untrue []neighbor.Neighbor) {
	outdated := make(map[pinKey]neighbor.Neighbor, len(found.Outdated))
	for _, n := range found.Outdated {
		outdated[keyOf(n)] = n
	}
	for _, n := range found.Neighbors {
		if _, old := outdated[keyOf(n)]; old || !n.Permanent() {
			missing = append(missing, n)
		}
		delete(outdated, keyOf(n))
	}
	for _, n := range outdated {
		untrue = append(untrue, n)
	}
	return missing, untrue
}
