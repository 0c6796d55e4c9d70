// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/plain"
)

var (
	// ErrInterrupted says that what was read changed while it was read, each
	// time that it was tried.
	ErrInterrupted = errors.New("the kernel's answer was interrupted by changes every time; try again")

	// ErrTooLong says that a dump does not get beyond a message which is longer than
	// the part that the kernel made, also where the part was as long as parts can be.
	ErrTooLong = fmt.Errorf("something is longer than the kernel lists: %w", unix.EMSGSIZE)

	// ErrMalformed says that a message's lengths contradict each other, or that what
	// it must have is missing.
	ErrMalformed = errors.New("malformed netlink message")

	// errCut says that an answer was longer than there was room for. There is now.
	errCut = errors.New("the answer was cut off")
	// errLost says that the kernel could not leave an answer. There is room now.
	errLost = fmt.Errorf("answers of the kernel's were lost: %w", unix.ENOBUFS)
)

// refusal is the kernel's number with its own words, which become text only where somebody reads them: that a pod has no entry yet is a
// refusal too, twice for each pod.
type refusal struct {
	errno unix.Errno
	words string
}

func (r *refusal) Error() string { return r.errno.Error() + ": " + plain.Text(r.words) }

func (r *refusal) Unwrap() error { return r.errno }
