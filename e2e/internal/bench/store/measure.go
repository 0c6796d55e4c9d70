// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/neighpin/neighpin/e2e/internal/bench"
)

// errWrong says that a way does not lead where it should.
var errWrong = errors.New("it found another sandbox")

// series is what one way has cost at one number of sandboxes.
type series struct {
	way      way
	took     []time.Duration
	sum      cost
	tooLarge bool // the answer is larger than a message
}

// measure goes every way in turns, each until it has been gone that often or has taken its share of the time.
func (w *world) measure(ctx context.Context, ways []way, rounds int, share time.Duration) ([]series, error) {
	all := make([]series, len(ways))
	for i, way := range ways {
		all[i].way = way
	}
	const least = 3
	for round := range rounds {
		for i := range all {
			s := &all[(i+round)%len(all)]
			if s.tooLarge || round >= least && s.sum.took > share {
				continue
			}
			if err := w.try(ctx, s); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// try goes one way once, and checks where it leads.
func (w *world) try(ctx context.Context, s *series) error {
	if s.way.ready != nil {
		if err := s.way.ready(ctx, w); err != nil {
			return err
		}
	}
	before, err := w.use()
	if err != nil {
		return err
	}
	id, err := s.way.find(ctx, w)
	after, useErr := w.use()
	switch {
	case status.Code(err) == codes.ResourceExhausted:
		s.tooLarge = true
		return useErr
	case err != nil:
		return fmt.Errorf("%s: %w", s.way.name, err)
	case id != w.new.id:
		return fmt.Errorf("%s: %w: %q, want %s", s.way.name, errWrong, id, w.new.id)
	}
	c := after.since(before)
	s.took = append(s.took, c.took)
	s.sum = cost{took: s.sum.took + c.took, theirs: s.sum.theirs + c.theirs, ours: s.sum.ours + c.ours,
		sent: s.sum.sent + c.sent, received: s.sum.received + c.received}
	return useErr
}

// row is the series in the table; label says at what.
func (s series) row(label string) bench.Row {
	n := float64(len(s.took))
	if n == 0 {
		return bench.NewRow(label+": "+s.way.name, nil)
	}
	micro := func(d time.Duration) float64 { return float64(d.Microseconds()) / n }
	return bench.NewRow(label+": "+s.way.name, s.took,
		bench.Value{Name: "containerd's CPU", Unit: "µs", Value: micro(s.sum.theirs)}, bench.Value{Name: "client's CPU", Unit: "µs", Value: micro(s.sum.ours)},
		bench.Value{Name: "asked", Unit: "bytes", Value: float64(s.sum.sent / int64(n))}, bench.Value{Name: "answered", Unit: "bytes", Value: float64(s.sum.received / int64(n))})
}
