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

	// ErrNoCookie says that the kernel does not know SO_NETNS_COOKIE. There is no
	// fallback: device and inode number of a namespace's file, all that an older
	// kernel tells, are given to the next namespace as soon as one has ended, and
	// a sandbox's pins would be taken for another's.
	ErrNoCookie = errors.New("this kernel cannot tell network namespaces apart (it has no SO_NETNS_COOKIE): Linux 5.14 or newer is needed")

	errOtherKind = fmt.Errorf("%w but one of another kind", ErrNotNamespace)
	errGoexit    = errors.New("the function ended its goroutine")
)

// Error tells what was tried on which namespace.
type Error struct {
	Op   string // the verb, such as "open"
	Path string // as the caller gave it
	Err  error  // the cause, for errors.Is
}

// Error returns one line, printable whatever the path was.
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
