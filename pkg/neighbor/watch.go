// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink/nl"
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

// watchGroups are multicast groups of include/uapi/linux/rtnetlink.h.
func watchGroups() []uint {
	return []uint{unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE}
}

// Watcher reports what happens in one namespace. Receive is for one goroutine;
// Close may be called from any.
//
// Its socket keeps the namespace alive until Close.
type Watcher struct {
	path   string
	socket *nl.NetlinkSocket
	names  map[int]string // of the links

	closed atomic.Bool
}

// Watch begins to listen to the namespace: everything that happens from its
// return on is reported. ns may be closed afterwards.
func Watch(ns *netns.NS) (*Watcher, error) {
	w := &Watcher{path: ns.Path(), names: make(map[int]string)}
	var c *conn
	err := ns.Do(func() (err error) {
		if w.socket, err = openSocket(watchGroups()...); err != nil {
			return err
		}
		c, err = dial()
		return err
	})
	if err == nil {
		err = w.prepare(c)
	}
	if c != nil {
		c.Close()
	}
	if err != nil {
		if w.socket != nil {
			w.socket.Close()
		}
		return nil, fmt.Errorf("watch %s: %w", printable(w.path), err)
	}
	return w, nil
}

// prepare sizes the buffer and learns the names of the links, which messages
// about addresses and entries leave out.
func (w *Watcher) prepare(c *conn) error {
	// By force goes beyond net.core.rmem_max and needs CAP_NET_ADMIN, without
	// which the kernel's default has to do: the rest is Overrun's business.
	if err := w.socket.SetReceiveBufferSize(watchBuffer, true); err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("size the receive buffer: %w", err)
	}
	return c.dump(context.Background(), linksRequest(), func() { clear(w.names) }, func(body []byte) error {
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
	w.socket.Close()
	return nil
}

// Receive waits for something to happen and returns it, in the kernel's order.
// Lost or unreadable messages give an event of kind Overrun. After Close the
// error wraps os.ErrClosed.
func (w *Watcher) Receive() ([]Event, error) {
	for {
		events, err := w.receive()
		if w.closed.Load() {
			err = os.ErrClosed // which the library does not say
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
	for more := true; more; more = len(events) < receiveAtOnce && w.waiting() {
		messages, from, err := w.socket.Receive()
		switch {
		case w.closed.Load():
			return nil, os.ErrClosed
		case err == nil && from.Pid == nl.PidKernel:
			events = w.decode(events, messages)
		case err == nil: // a sandbox may send to the groups, but is not listened to
		case lost(err):
			events = append(events, Event{Kind: Overrun})
		default:
			return nil, err
		}
	}
	return events, nil
}

// lost tells whether an error of the library's Receive is about one message:
// more of them than the buffer holds, or one that cannot be taken apart (EINVAL,
// or no number at all), which may as well be a sandbox's.
func lost(err error) bool {
	var errno unix.Errno
	return !errors.As(err, &errno) || errno == unix.ENOBUFS || errno == unix.EINVAL
}

// waiting tells whether there is something to receive. Should the descriptor be
// closed at this moment, Receive finds that out.
func (w *Watcher) waiting() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.socket.GetFd()), Events: unix.POLLIN}}, 0)
	return n > 0 && err == nil
}

func (w *Watcher) decode(events []Event, messages []syscall.NetlinkMessage) []Event {
	for _, m := range messages {
		ev, ok, err := parseEvent(m.Header.Type, m.Data)
		switch {
		case err != nil:
			ev = Event{Kind: Overrun}
		case !ok:
			continue
		case ev.Kind == LinkChanged:
			w.names[ev.Index] = ev.Dev
		case ev.Kind == LinkRemoved:
			delete(w.names, ev.Index)
		default:
			ev.Dev = w.names[ev.Index]
		}
		events = append(events, ev)
	}
	return events
}
