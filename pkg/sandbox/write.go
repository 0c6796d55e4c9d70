// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"slices"

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
	// New are those of Neighbors that had to be written.
	New []neighbor.Neighbor
}

// Write pins what a resolution found and the table does not hold yet, and
// releases pins of ours for which there is no truth any more. One entry that
// cannot be pinned costs no other: it is skipped, and the error names it beside
// a valid outcome.
func Write(ctx context.Context, table *neighbor.Table, found neighbor.Resolution) (Written, error) {
	missing, untrue := toWrite(found)
	_, releaseErr := table.Release(ctx, untrue)
	failed, err := pin(ctx, table, missing)
	out := Written{Skipped: found.Skipped}
	for _, n := range found.Neighbors {
		if failed[keyOf(n)] {
			out.Skipped = append(out.Skipped, neighbor.Skipped{Dst: n.Dst, Dev: n.Dev, Reason: ReasonPinFailed, Message: err.Error()})
			continue
		}
		isNew := slices.ContainsFunc(missing, n.Same)
		n.State = []string{annotation.StatePermanent}
		out.Neighbors = append(out.Neighbors, n)
		if isNew {
			out.New = append(out.New, n)
		}
	}
	return out, errors.Join(err, releaseErr)
}

// pin pins and returns which entries do not stand, or are not known to.
func pin(ctx context.Context, table *neighbor.Table, missing []neighbor.Neighbor) (failed map[pinKey]bool, err error) {
	if err = table.Pin(ctx, missing); err == nil {
		return nil, nil
	}
	failed = make(map[pinKey]bool)
	differences, verifyErr := table.Verify(ctx, missing)
	for _, d := range differences {
		failed[pinKey{d.Dst.String(), d.Dev}] = true
	}
	if verifyErr != nil {
		for _, n := range missing {
			failed[keyOf(n)] = true
		}
	}
	return failed, errors.Join(err, verifyErr)
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
