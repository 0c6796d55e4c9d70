// SPDX-License-Identifier: Apache-2.0

package record

import (
	"slices"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// DriftedFrom tells whether what the record says of its gateways differs from what it said
// before: what is pinned, what is not and why, and which copies are not true.
func (r Record) DriftedFrom(before Record) bool {
	return !equal(before.Neighbors, r.Neighbors, sameNeighbor) || !equal(before.Skipped, r.Skipped, sameSkipped) ||
		!equal(before.Stale, r.Stale, Stale.Same)
}

// AsksAs tells whether the same is asked for on the wire as before, and the same came of it.
func (r Record) AsksAs(before Record) bool {
	return SameDoubts(before.Doubts, r.Doubts) && slices.Equal(before.Probes, r.Probes)
}

// SameDoubts tells whether two lists say the same, in whatever order.
func SameDoubts(a, b []Doubt) bool { return equal(a, b, Doubt.Same) }

// equal tells whether two lists hold the same, in whatever order.
func equal[T any](a, b []T, same func(T, T) bool) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x T) bool {
		return !slices.ContainsFunc(b, func(y T) bool { return same(x, y) })
	})
}

func sameNeighbor(a, b neighbor.Neighbor) bool { return a.Same(b) && a.Source == b.Source }

func sameSkipped(a, b neighbor.Skipped) bool {
	return a.Dst == b.Dst && a.Dev == b.Dev && a.Reason == b.Reason
}
