// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"

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

// Write pins what a resolution found and the table does not hold yet. One entry
// that cannot be pinned costs no other: it is skipped, and the error names it
// beside a valid outcome.
func Write(ctx context.Context, table *neighbor.Table, found neighbor.Resolution) (Written, error) {
	var missing []neighbor.Neighbor
	for _, n := range found.Neighbors {
		if !n.Permanent() {
			missing = append(missing, n)
		}
	}
	out := Written{Skipped: found.Skipped}
	failed := make(map[pinKey]bool)
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
	return out, err
}
