// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

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
	socket *listener
	names  map[int]string // of the links
}

// Watch begins to listen to the namespace: everything that happens from its
// return on is reported. ns may be closed afterwards.
func Watch(ns *netns.NS) (*Watcher, error) {
	w := &Watcher{path: ns.Path(), names: make(map[int]string)}
	var c *conn
	err := ns.Do(func() (err error) {
		if w.socket, err = listen(watchBuffer, false, watchGroups()...); err != nil {
			return err
		}
		c, err = dial()
		return err
	})
	if err == nil {
		err = w.learnNames(c)
	}
	if c != nil {
		c.Close()
	}
	if err != nil {
		if w.socket != nil {
			w.socket.close()
		}
		return nil, fmt.Errorf("watch %s: %w", printable(w.path), err)
	}
	return w, nil
}

// learnNames reads the names of the links, which messages about addresses and
// entries leave out.
func (w *Watcher) learnNames(c *conn) error {
	return c.dump(context.Background(), linksRequest(nsidNone), func() { clear(w.names) }, func(body []byte) error {
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
	w.socket.close()
	return nil
}

// Receive waits for something to happen and returns it, in the kernel's order.
// Lost or unreadable messages give an event of kind Overrun: what is read from
// the kernel after it is not older than what was lost. After Close the error
// wraps os.ErrClosed.
func (w *Watcher) Receive() ([]Event, error) {
	events, err := collect(w.socket, w.decode)
	if err != nil {
		return nil, fmt.Errorf("receive events of %s: %w", printable(w.path), err)
	}
	return events, nil
}

func (w *Watcher) decode(n notice) (ev Event, ok bool) {
	ev, ok, err := parseEvent(n.kind, n.body)
	switch {
	case err != nil, n.kind == 0:
		return Event{Kind: Overrun}, true
	case !ok:
		return Event{}, false
	case ev.Kind == LinkChanged:
		w.names[ev.Index] = ev.Dev
	case ev.Kind == LinkRemoved:
		delete(w.names, ev.Index)
	default:
		ev.Dev = w.names[ev.Index]
	}
	return ev, true
}
