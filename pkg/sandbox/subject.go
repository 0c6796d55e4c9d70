// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"iter"
	"net/netip"

	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// A sandbox that has started is in the guard's care.
var _ guard.Subject = (*sandbox)(nil)

// Compare is one look at the sandbox, see [guard.Subject].
func (s *sandbox) Compare(look guard.Look) (guard.Basis, error) { return s.engine.compare(s, look) }

// ConcernedBy tells whether an event in the sandbox's namespace may have changed what the
// record says.
func (s *sandbox) ConcernedBy(ev neighbor.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rec == nil {
		return s.packed.Concerns(ev)
	}
	return s.rec.Concerns(ev)
}

// Gateways are those that the record knows, pinned or not.
func (s *sandbox) Gateways() iter.Seq[netip.Addr] {
	rec := s.record()
	return func(yield func(netip.Addr) bool) {
		for _, n := range rec.Neighbors {
			if !yield(n.Dst) {
				return
			}
		}
		for _, skipped := range rec.Skipped {
			if !yield(skipped.Dst) {
				return
			}
		}
	}
}

// wards are the sandboxes as the guard knows them.
func wards(sandboxes []*sandbox) (list []*guard.Ward) {
	for _, s := range sandboxes {
		list = append(list, s.ward)
	}
	return list
}

// causeOf is a cause's name outside.
func causeOf(c guard.Cause) record.Cause {
	switch c {
	case guard.Slow:
		return record.CauseComparison
	case guard.Resync:
		return record.CauseLostEvents
	case guard.Takeover:
		return record.CauseTakeover
	}
	return record.CauseEvent
}
