// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
	"github.com/neighpin/neighpin/pkg/netns"
)

// watchBuffer is room for about 2500 messages about entries; the kernel takes it
// twice. The usual 208 KiB hold 256 (each is charged a whole buffer), and a
// namespace with many multicast groups sends more than that at once when a link
// goes down. It is a limit: nothing is taken before it is used.
const watchBuffer = 1 << 20

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
	socket *rtnetlink.Listener
	names  map[int]string                  // of the links that were heard of
	nameOf func(index int) (string, error) // finds those of others
}

// Watch begins to listen to the namespace: everything that happens from its
// return on is reported. ns may be closed afterwards.
func Watch(ns *netns.NS) (*Watcher, error) {
	w := &Watcher{path: ns.Path(), names: make(map[int]string)}
	err := ns.Do(func() (err error) {
		w.socket, err = rtnetlink.Listen(watchBuffer, watchGroups()...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", plain.Text(w.path), err)
	}
	// Not to be able to would be noticed by nobody: of every event the link would be unknown.
	if _, err := w.socket.LinkName(1); err != nil {
		w.socket.Close()
		return nil, fmt.Errorf("watch %s: %w", plain.Text(w.path), err)
	}
	w.nameOf = w.socket.LinkName
	return w, nil
}

// name is that of a link, which messages about addresses and entries leave out.
func (w *Watcher) name(index int) string {
	name, known := w.names[index]
	if !known && index > 0 {
		if name, _ = w.nameOf(index); name != "" {
			w.names[index] = name
		}
	}
	return name
}

// Close ends the listening; a Receive that waits returns. Closing again does
// nothing.
func (w *Watcher) Close() error {
	w.socket.Close()
	return nil
}

// Receive waits for something to happen and returns it, in the kernel's order.
// Lost or unreadable messages give an event of kind Overrun: what is read from
// the kernel after it is not older than what was lost. After Close the error
// wraps os.ErrClosed.
func (w *Watcher) Receive() ([]Event, error) {
	events, err := collect(w.socket, w.decode)
	if err != nil {
		return nil, fmt.Errorf("receive events of %s: %w", plain.Text(w.path), err)
	}
	return events, nil
}

func (w *Watcher) decode(n rtnetlink.Notice) (ev Event, ok bool) {
	ev, ok, err := parseEvent(n)
	switch {
	case err != nil, n.Kind == 0:
		clear(w.names) // what is lost may have been of a link's new name
		return Event{Kind: Overrun}, true
	case !ok:
		return Event{}, false
	case ev.Kind == LinkChanged:
		w.names[ev.Index] = ev.Dev
	case ev.Kind == LinkRemoved:
		delete(w.names, ev.Index)
	default:
		ev.Dev = w.name(ev.Index)
	}
	return ev, true
}

// ReceiveAtOnce bounds the events that one Receive of a watcher returns, so that a
// storm comes in pieces. Fewer mean that there were no more at that moment.
const ReceiveAtOnce = 256

// collect waits until there is an event at least, and takes those that are there,
// up to ReceiveAtOnce.
func collect[E any](l *rtnetlink.Listener, decode func(rtnetlink.Notice) (E, bool)) (events []E, err error) {
	for len(events) == 0 && err == nil {
		err = l.Receive(func(n rtnetlink.Notice) (more bool) {
			if ev, ok := decode(n); ok {
				events = append(events, ev)
			}
			return len(events) < ReceiveAtOnce
		})
	}
	return events, err
}
