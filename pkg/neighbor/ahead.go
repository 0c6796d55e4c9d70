// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// atOnce bounds the requests of one exchange: their answers have to have room in
// the socket's queue, which is 208 KiB.
const atOnce = 32

// errUnanswered says that the kernel passed over a request in the midst of others.
var errUnanswered = errors.New("the kernel has not answered")

// looked is the answer to the question for an entry.
type looked struct {
	entry
	err error
}

// readLink reads a link and the entries of gateways on it, and by the way the
// number of the host's namespace if that is to be had: mostly all that a sandbox
// has to be asked for after its routes, in one go.
func (t *Table) readLink(ctx context.Context, index int, gateways []key) (l link, entries []looked, err error) {
	some := gateways[:min(len(gateways), atOnce)]
	requests := append(make([]*request, 0, len(some)+2), linkRequest(index, nsidNone))
	for _, k := range some {
		requests = append(requests, readRequest(k.dst, k.index))
	}
	if t.asksForHost() {
		requests = append(requests, nsidRequest(unix.RTM_GETNSID).attr32(netlink.NETNSA_FD, uint32(t.host.FD())))
	}
	entries = unanswered(len(gateways))
	err = errUnanswered
	failed := t.conn.exchange(ctx, func(i int, body []byte, refused error) {
		switch {
		case i == 0:
			if err = refused; err == nil {
				l, err = parseLink(body)
			}
		case i <= len(some):
			entries[i-1] = readLooked(body, refused)
		case refused == nil:
			if number, err := parseNSID(body); err == nil {
				t.noteHost(number)
			}
		}
	}, requests...)
	for done := len(some); failed == nil && err == nil && done < len(gateways); done += len(some) {
		some = gateways[done:min(len(gateways), done+atOnce)]
		failed = t.readEntries(ctx, some, entries[done:])
	}
	if failed != nil {
		err = failed
	}
	return l, entries, err
}

// readEntries reads at most atOnce entries.
func (t *Table) readEntries(ctx context.Context, keys []key, entries []looked) error {
	requests := make([]*request, len(keys))
	for i, k := range keys {
		requests[i] = readRequest(k.dst, k.index)
	}
	return t.conn.exchange(ctx, func(i int, body []byte, refused error) { entries[i] = readLooked(body, refused) }, requests...)
}

func unanswered(n int) []looked {
	list := make([]looked, n)
	for i := range list {
		list[i].err = errUnanswered
	}
	return list
}

// readLooked reads an answer to readRequest.
func readLooked(body []byte, refused error) (a looked) {
	switch {
	case errors.Is(refused, unix.ENOENT): // there is none
	case refused != nil:
		a.err = refused
	default:
		a.entry, a.err = parseEntry(body)
	}
	return a
}
