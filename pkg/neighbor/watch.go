// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/netns"
)

// watchBuffer is room for about 2500 messages about entries; the kernel takes it
// twice. The usual 208 KiB hold 256 (each is charged a whole buffer), and a
// namespace with many multicast groups sends more than that at once when a link
// goes down. It is a limit: nothing is taken before it is used.
const watchBuffer = 1 << 20

// receiveAtOnce bounds the events that one Receive returns, so that a storm in a
// sandbox comes in pieces.
const receiveAtOnce = 256

// watchGroups are the multicast groups of include/uapi/linux/rtnetlink.h. Those
// up to 31 are bits.
const watchGroups = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_NEIGH-1) |
	1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1) |
	1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1)

// Watcher reports what happens in one namespace. Receive is for one goroutine;
// Close may be called from any.
//
// Its socket keeps the namespace alive until Close.
type Watcher struct {
	path  string
	file  *os.File
	raw   syscall.RawConn
	buf   []byte
	names map[int]string // of the links

	closed atomic.Bool
}

// Watch begins to listen to the namespace: everything that happens from its
// return on is reported. ns may be closed afterwards.
func Watch(ns *netns.NS) (*Watcher, error) {
	w := &Watcher{path: ns.Path(), buf: make([]byte, receiveSize), names: make(map[int]string)}
	var c *conn
	err := ns.Do(func() (err error) {
		if w.file, _, err = openSocket(watchGroups); err != nil {
			return err
		}
		c, err = dial()
		return err
	})
	if err == nil {
		err = w.prepare(c)
	}
	if c != nil {
		_ = c.Close()
	}
	if err != nil {
		if w.file != nil {
			_ = w.file.Close()
		}
		return nil, fmt.Errorf("watch %s: %w", printable(w.path), err)
	}
	return w, nil
}

// prepare sizes the buffer and learns the names of the links, which messages
// about addresses and entries leave out.
func (w *Watcher) prepare(c *conn) (err error) {
	if w.raw, err = w.file.SyscallConn(); err != nil {
		return err
	}
	// FORCE goes beyond net.core.rmem_max and needs CAP_NET_ADMIN, without
	// which the kernel's default has to do: the rest is Overrun's business.
	if err := setOptions(w.raw, option{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, watchBuffer}); err != nil && !errors.Is(err, unix.EPERM) {
		return err
	}
	return c.dump(context.Background(), linksRequest(), func() { clear(w.names) }, func(_ uint16, body []byte) error {
		l, err := parseLink(body)
		if err == nil {
			w.names[l.index] = l.name
		}
		return err
	})
}

// Close ends the listening; a Receive that waits returns. Closing again does
// nothing.
func (w *Watcher) Close() error {
	w.closed.Store(true)
	if err := w.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("stop to watch %s: %w", printable(w.path), err)
	}
	return nil
}

// Receive waits for something to happen and returns it, in the kernel's order.
// Lost or unreadable messages give an event of kind Overrun. After Close the
// error wraps os.ErrClosed.
func (w *Watcher) Receive() ([]Event, error) {
	for {
		events, err := w.receive()
		if w.closed.Load() {
			err = os.ErrClosed // which a raw connection does not say by itself
		}
		if err != nil {
			return nil, fmt.Errorf("receive events of %s: %w", printable(w.path), err)
		}
		if len(events) > 0 {
			return events, nil
		}
	}
}

// receive waits for a message and takes what else is there already.
func (w *Watcher) receive() (events []Event, err error) {
	var inner error
	err = w.raw.Read(func(fd uintptr) bool {
		for taken := false; len(events) < receiveAtOnce; taken = true {
			n, from, err := receiveFrom(int(fd), w.buf)
			switch {
			case errors.Is(err, unix.EAGAIN):
				return taken
			case errors.Is(err, unix.ENOBUFS), errors.Is(err, errMalformed):
				events = append(events, Event{Kind: Overrun})
			case err != nil:
				inner = err
				return true
			case from == 0: // only the kernel is listened to; a sandbox may send to us
				events = w.decode(events, w.buf[:n])
			}
		}
		return true
	})
	return events, errors.Join(err, inner)
}

func (w *Watcher) decode(events []Event, datagram []byte) []Event {
	_, err := walkMessages(datagram, func(h header, body []byte) (bool, error) {
		ev, ok, err := parseEvent(h.kind, body)
		if !ok || err != nil {
			return false, err
		}
		switch ev.Kind {
		case LinkChanged:
			w.names[ev.Index] = ev.Dev
		case LinkRemoved:
			delete(w.names, ev.Index)
		default:
			ev.Dev = w.names[ev.Index]
		}
		events = append(events, ev)
		return false, nil
	})
	if err != nil {
		events = append(events, Event{Kind: Overrun})
	}
	return events
}
