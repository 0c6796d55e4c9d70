// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"strconv"
)

var (
	// ErrHost says that a namespace is the host's own, which nothing of a
	// sandbox may be done in.
	ErrHost = errors.New("it is the host's own network namespace; name the one of a sandbox")

	// ErrNotNamespace says that a path leads to something that is no network
	// namespace.
	ErrNotNamespace = errors.New("not a network namespace")

	errOtherKind = fmt.Errorf("%w but one of another kind", ErrNotNamespace)
	errGoexit    = errors.New("the function ended its goroutine")
)

// Error tells what was tried on which namespace.
type Error struct {
	Op   string // the verb, such as "open"
	Path string // as the caller gave it
	Err  error  // the cause, for errors.Is
}

func (e *Error) Error() string {
	return e.Op + " network namespace " + quote(e.Path) + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// quote makes a path safe to print: it comes from outside and may carry line
// breaks or terminal codes.
func quote(path string) string {
	if q := strconv.QuoteToGraphic(path); q != `"`+path+`"` {
		return q
	}
	return path
}
