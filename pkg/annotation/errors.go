// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"errors"
	"fmt"
	"strconv"
)

// ErrVersion is in the error of [Parse] when the value is well formed but of a
// version this package does not read. A runtime that meets it should be updated;
// the pod is not to blame.
var ErrVersion = errors.New("unknown version")

// Error says which field of an annotation is wrong, and how.
//
// Its text is bounded and printable whatever the input was, so it may be logged
// as it is.
type Error struct {
	// Op is "parse" or "marshal".
	Op string
	// Field is the path to the fault, such as neighbors[2].lladdr; empty when
	// the fault lies in the value as a whole.
	Field string
	// Err is the fault. It may be [ErrVersion], wrapped.
	Err error
}

// Error returns one line: the operation, the key, the field and the fault.
func (e *Error) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%s annotation %s: %v", e.Op, Key, e.Err)
	}
	return fmt.Sprintf("%s annotation %s: %s: %v", e.Op, Key, e.Field, e.Err)
}

// Unwrap returns the fault.
func (e *Error) Unwrap() error { return e.Err }

// at returns an error for a field; the exported functions add what was tried.
func at(field, format string, args ...any) error {
	return &Error{Field: field, Err: fmt.Errorf(format, args...)}
}

// during names the operation in an error of this package.
func during(op string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		return &Error{Op: op, Field: e.Field, Err: e.Err}
	}
	return &Error{Op: op, Err: err}
}

// quote returns hostile text in a form fit for a log: ASCII, escaped, and cut.
func quote(s string) string {
	const limit = 64
	if len(s) <= limit {
		return strconv.QuoteToASCII(s)
	}
	return fmt.Sprintf("%s... (%d bytes)", strconv.QuoteToASCII(s[:limit]), len(s))
}
