// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"fmt"
	"sync"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
	"github.com/neighpin/neighpin/pkg/netns"
)

// Table is the neighbor tables of one namespace. Its methods may be called from
// several goroutines at once; the kernel's part of them takes turns.
//
// Its socket keeps the namespace alive until Close.
type Table struct {
	path   string
	cookie uint64
	conn   *rtnetlink.Conn
	host   *netns.NS // nil: this process's own

	mu sync.Mutex // guards the following
	// hostNSID is the number of the host's namespace, once it has been read: it
	// stays for as long as both are there.
	hostNSID int32
	hostRead bool
	// ours are permanent entries that Resolve recognised as made by us, and
	// which Pin may therefore give another address.
	ours map[key]HardwareAddr
	// names are the links that the last Resolve saw, to which Pin writes.
	names map[string]int
}

// key names an entry by the kernel's measure.
type key = rtnetlink.Key

// Open binds a Table to the namespace. ns may be closed afterwards. The host is
// the namespace that this process runs in.
func Open(ns *netns.NS) (*Table, error) { return openWithHost(ns, nil) }

// openWithHost is Open for a process that runs in another namespace than the
// host's, whose links and bridges are to be believed. host has to stay open for as
// long as the Table is used.
func openWithHost(ns, host *netns.NS) (*Table, error) {
	t := &Table{path: ns.Path(), cookie: ns.Cookie(), host: host, ours: make(map[key]HardwareAddr)}
	err := ns.Do(func() (err error) {
		t.conn, err = rtnetlink.Dial()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open neighbor tables of %s: %w", plain.Text(t.path), err)
	}
	return t, nil
}

// OpenAt binds a Table to the namespace at path, which it visits once. Its Cookie
// tells which namespace that was. The host's are refused, with netns.ErrHost; for
// other errors of path see netns.Open. host has to stay open for as long as the
// Table is used.
func OpenAt(host *netns.Host, path string) (*Table, error) {
	fd, cookie, err := host.Socket(path, rtnetlink.OpenSocket)
	if err != nil {
		return nil, err
	}
	c, err := rtnetlink.New(fd)
	if err != nil {
		return nil, fmt.Errorf("open neighbor tables of %s: %w", plain.Text(path), err)
	}
	return &Table{path: path, cookie: cookie, conn: c, host: host.Self(), ours: make(map[key]HardwareAddr)}, nil
}

// Cookie is that of the namespace, by which the kernel knows it.
func (t *Table) Cookie() uint64 { return t.cookie }

// Close lets go of the namespace; a call that is waiting for the kernel ends.
// Closing again does nothing.
func (t *Table) Close() error {
	t.conn.Close()
	return nil
}

// hostNumber is the number of the host's namespace in this one, or rtnetlink.NSIDNone.
func (t *Table) hostNumber(ctx context.Context) (int32, error) {
	number, known := t.knownHost()
	if known {
		return number, nil
	}
	err := t.inHost(func(host *netns.NS) (err error) {
		if number, err = t.conn.NSID(ctx, host.FD()); err != nil {
			err = fmt.Errorf("read the number of namespace %s: %w", plain.Text(host.Path()), err)
		}
		return err
	})
	if err != nil {
		return rtnetlink.NSIDNone, err
	}
	t.noteHost(number)
	return number, nil
}

func (t *Table) knownHost() (number int32, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hostNSID, t.hostRead
}

// noteHost remembers a number. That there is none is asked again: the host's
// namespace is given one with the first link that leads there.
func (t *Table) noteHost(number int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hostNSID, t.hostRead = number, number != rtnetlink.NSIDNone
}

// readLink reads a link with the entries of gateways on it, and by the way the number
// of the host's namespace, if that is wanted and to be had without opening it first.
func (t *Table) readLink(ctx context.Context, index int, gateways []key) (rtnetlink.Link, []rtnetlink.Looked, error) {
	host := -1
	if _, known := t.knownHost(); !known && t.host != nil {
		host = t.host.FD()
	}
	look, err := t.conn.Look(ctx, index, gateways, host)
	if look.Numbered {
		t.noteHost(look.NSID)
	}
	return look.Link, look.Entries, err
}

// inHost gives fn the host's namespace, which is fn's for the call only.
func (t *Table) inHost(fn func(host *netns.NS) error) error {
	if t.host != nil {
		return fn(t.host)
	}
	self, err := netns.Self()
	if err != nil {
		return err
	}
	defer self.Close()
	return fn(self)
}
