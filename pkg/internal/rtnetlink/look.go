// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// AtOnce bounds the requests of one exchange: their answers have to have room in
// the socket's queue, which is 208 KiB.
const AtOnce = 32

// ErrUnanswered says that the kernel passed over a request in the midst of others.
var ErrUnanswered = errors.New("the kernel has not answered")

// Look is a link of the socket's namespace and entries on it, as one exchange
// showed them.
type Look struct {
	Link    Link
	Entries []Looked // of the keys, in their order

	// The number of the namespace that was asked for, if Numbered.
	NSID     int32
	Numbered bool
}

// Looked is the answer to the question for an entry.
type Looked struct {
	Entry // the zero one when there is none
	Err   error
}

// Look reads a link and the entries of the keys, all on it, and by the way the
// number of the namespace whose descriptor ns is, unless that is negative: mostly all
// that a sandbox has to be asked for after its routes, in one go.
func (c *Conn) Look(ctx context.Context, index int, keys []Key, ns int) (look Look, err error) {
	some := keys[:min(len(keys), AtOnce)]
	requests := append(make([]*request, 0, len(some)+2), linkRequest(index, NSIDNone))
	for _, k := range some {
		requests = append(requests, readRequest(k))
	}
	if ns >= 0 {
		requests = append(requests, nsidRequest(unix.RTM_GETNSID, ns))
	}
	look.Entries, err = unanswered(len(keys)), ErrUnanswered
	failed := c.exchange(ctx, func(i int, body []byte, refused error) {
		switch {
		case i == 0:
			if err = refused; err == nil {
				look.Link, err = ParseLink(body)
			}
		case i <= len(some):
			look.Entries[i-1] = readLooked(body, refused)
		case refused == nil:
			number, err := ParseNSID(body)
			look.NSID, look.Numbered = number, err == nil
		}
	}, requests...)
	for done := len(some); failed == nil && err == nil && done < len(keys); done += len(some) {
		some = keys[done:min(len(keys), done+AtOnce)]
		failed = c.readEntries(ctx, some, look.Entries[done:])
	}
	if failed != nil {
		err = failed
	}
	return look, err
}

// readEntries reads at most AtOnce entries.
func (c *Conn) readEntries(ctx context.Context, keys []Key, entries []Looked) error {
	requests := make([]*request, len(keys))
	for i, k := range keys {
		requests[i] = readRequest(k)
	}
	return c.exchange(ctx, func(i int, body []byte, refused error) { entries[i] = readLooked(body, refused) }, requests...)
}

func unanswered(n int) []Looked {
	list := make([]Looked, n)
	for i := range list {
		list[i].Err = ErrUnanswered
	}
	return list
}

// readLooked reads an answer to readRequest.
func readLooked(body []byte, refused error) (a Looked) {
	switch {
	case errors.Is(refused, unix.ENOENT): // there is none
	case refused != nil:
		a.Err = refused
	default:
		a.Entry, a.Err = ParseEntry(body)
	}
	return a
}
