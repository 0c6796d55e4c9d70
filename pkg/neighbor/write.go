// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"slices"

	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// Written is the outcome of [Table.Write].
type Written struct {
	// Neighbors are all that are permanent now, in that state.
	Neighbors []Neighbor
	// Skipped are those that are not, of the resolution and of the writing.
	Skipped []Skipped
	// New are those of Neighbors that had to be written.
	New []Neighbor
}

// Write pins what a resolution found and the table does not hold yet, and
// releases pins of ours for which there is no truth any more. One entry that
// cannot be pinned costs no other: it is skipped, and the error names it beside
// a valid outcome.
func (t *Table) Write(ctx context.Context, found Resolution) (Written, error) {
	missing, untrue := toWrite(found)
	_, releaseErr := t.Release(ctx, untrue)
	failed, err := t.pinEach(ctx, missing)
	out := Written{Skipped: found.Skipped}
	for _, n := range found.Neighbors {
		if failed[n.Gateway()] {
			out.Skipped = append(out.Skipped, Skipped{Dst: n.Dst, Dev: n.Dev, Reason: ReasonPinFailed, Message: err.Error()})
			continue
		}
		isNew := slices.ContainsFunc(missing, n.Same)
		n.State = []string{rtnetlink.StatePermanent}
		out.Neighbors = append(out.Neighbors, n)
		if isNew {
			out.New = append(out.New, n)
		}
	}
	return out, errors.Join(err, releaseErr)
}

// pinEach pins and returns which entries do not stand, or are not known to.
func (t *Table) pinEach(ctx context.Context, missing []Neighbor) (failed map[Gateway]bool, err error) {
	if err = t.Pin(ctx, missing); err == nil {
		return nil, nil
	}
	failed = make(map[Gateway]bool)
	differences, verifyErr := t.Verify(ctx, missing)
	for _, d := range differences {
		failed[Gateway{Dst: d.Dst, Dev: d.Dev}] = true
	}
	if verifyErr != nil {
		for _, n := range missing {
			failed[n.Gateway()] = true
		}
	}
	return failed, errors.Join(err, verifyErr)
}

// toWrite splits a resolution: what is to be pinned, and what is to go.
func toWrite(found Resolution) (missing, untrue []Neighbor) {
	outdated := make(map[Gateway]Neighbor, len(found.Outdated))
	for _, n := range found.Outdated {
		outdated[n.Gateway()] = n
	}
	for _, n := range found.Neighbors {
		if _, old := outdated[n.Gateway()]; old || !n.Permanent() {
			missing = append(missing, n)
		}
		delete(outdated, n.Gateway())
	}
	for _, n := range outdated {
		untrue = append(untrue, n)
	}
	return missing, untrue
}
