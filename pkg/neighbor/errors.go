// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"errors"
	"net/netip"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

var (
	// ErrForeign says that a permanent entry belongs to somebody else and was
	// left as it is.
	ErrForeign = errors.New("a permanent entry of another owner is there; it was not touched")

	// ErrInterrupted says that what was read changed while it was read, each
	// time that it was tried.
	ErrInterrupted = rtnetlink.ErrInterrupted
)

// EntryError tells what was tried on which entry.
type EntryError struct {
	Op  string // the verb, such as "pin"
	Dst netip.Addr
	Dev string
	Err error // the cause, for errors.Is
}

func (e *EntryError) Error() string {
	return e.Op + " neighbor " + e.Dst.String() + " on " + plain.Text(e.Dev) + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *EntryError) Unwrap() error { return e.Err }
