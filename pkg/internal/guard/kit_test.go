// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"errors"
	"iter"
	"net/netip"
	"slices"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

func TestMain(m *testing.M) { nstest.Main(m) }

var (
	gateway = netip.MustParseAddr("10.88.0.1")
	errDown = errors.New("down")
)

// subject stands for a sandbox where the guard alone is looked at; package sandbox has the real ones.
type subject struct {
	name      string
	concerned func(neighbor.Event) bool // nil: of nothing
	gateways  []netip.Addr
	questions Questions
	compare   func(Look) (Basis, error) // nil: all is well, and rests on what it rested on
}

func (s *subject) Compare(look Look) (Basis, error) {
	if s.compare == nil {
		return look.Basis, nil
	}
	return s.compare(look)
}

func (s *subject) ConcernedBy(ev neighbor.Event) bool { return s.concerned != nil && s.concerned(ev) }
func (s *subject) Gateways() iter.Seq[netip.Addr]     { return slices.Values(s.gateways) }
func (s *subject) Questions() Questions               { return s.questions }
func (s *subject) Ask() bool                          { return false }

// name is that of a ward's subject.
func (w *Ward) name() string { return w.subject.(*subject).name }

// idle is a guard that has not started: nobody takes from its lists but the test.
func idle(t *testing.T, opts Options) *Guard {
	g := New(opts)
	g.ctx = t.Context()
	t.Cleanup(g.end)
	return g
}

// deaf hears nothing of the host.
type deaf struct{ closed chan struct{} }

func newDeaf() (HostWatcher, error) { return &deaf{make(chan struct{})}, nil }

func (d *deaf) Receive() ([]neighbor.HostEvent, error) {
	<-d.closed
	return nil, errDown
}

func (d *deaf) Heard() uint64                  { return 0 }
func (d *deaf) HearEntries([]netip.Addr) error { return nil }

func (d *deaf) Close() error {
	select {
	case <-d.closed:
	default:
		close(d.closed)
	}
	return nil
}
