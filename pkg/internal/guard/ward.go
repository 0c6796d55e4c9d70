// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"iter"
	"net/netip"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// Subject is a sandbox as the guard sees it. Its methods are called from several
// goroutines, but Compare by one at a time, and all but Compare and Ask while the
// guard's lock is held: they must not call the guard, or wait.
type Subject interface {
	// Compare makes the sandbox agree with what is true now, and returns what that
	// rests on. After an error it is called again, soon.
	Compare(Look) (Basis, error)
	// ConcernedBy tells whether an event in the sandbox's namespace may have changed
	// what the last look found.
	ConcernedBy(neighbor.Event) bool
	// Gateways are those whose entries, wherever, matter to the sandbox.
	Gateways() iter.Seq[netip.Addr]
	Asker
}

// Asker asks for a sandbox's gateways on the wire.
type Asker interface {
	// Questions says what there is to ask.
	Questions() Questions
	// Ask asks, and reports whether what came of it is worth a look.
	Ask() (news bool)
}

// Questions are what there is to ask for a sandbox.
type Questions struct {
	Any   bool // there is a gateway to ask for
	First bool // one was never asked for, or not from the address that is there now
	// Unheard says that one was never asked for. A pod can give its link another
	// address again and again, each of which is worth a question at once, but not at
	// the cost of others.
	Unheard bool
}

// Look says of what a comparison may make use.
type Look struct {
	Basis    Basis              // what the last one rested on
	Cause    Cause              // what led to it
	Readings *neighbor.Readings // of the host, with other comparisons; nil for none
}

// Cause says why a sandbox is to be compared. What is more urgent is larger.
type Cause int

// The causes of a comparison.
const (
	none     Cause = iota
	Slow           // everything is compared from time to time
	Resync         // events were lost, or one concerns many
	Event          // something happened to it
	Takeover       // what became of it while nobody looked is to be found
	causes
)

// Ward is one sandbox in the guard's care, or to be taken into it. The guard's mutex
// guards it.
type Ward struct {
	subject   Subject
	dismissed bool // nothing of it is repaired any more
	basis     Basis
	nudge     chan struct{} // to the goroutine of its life; nil when that is over

	dirty    bool  // something happened since it was last begun to be compared
	busy     bool  // a worker has it
	look     *look // what that does
	waits    Cause // the list it stands in
	later    *time.Timer
	cause    Cause     // of dirty: the more urgent, if several
	waiters  []*waiter // for the next comparison
	served   []*waiter // for the one that a worker has begun
	pace     Pace
	failures int
	asking   asking
}

// NewWard prepares the care of a sandbox, which begins with Watch, Take or Check.
func NewWard(s Subject) *Ward { return &Ward{subject: s} }

// waiter waits for several wards to be compared. The guard's mutex guards it.
type waiter struct {
	left int
	done chan struct{}
}

// one says that one of them has been.
func (w *waiter) one() {
	if w.left--; w.left == 0 {
		close(w.done)
	}
}
