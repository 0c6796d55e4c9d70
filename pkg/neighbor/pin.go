// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// pinAttempts is how often an entry is looked at again that changes between
// being read and being written.
const pinAttempts = 5

// Pin makes the entries permanent, with the mark Protocol. It works through all
// of them and returns an *EntryError for each that could not be pinned, joined.
//
// Entries of SourceExisting are not written. Neither is a permanent entry with
// another address than wanted, unless the last Resolve of this Table recognised
// it as ours or Pin itself made it: that one's error wraps ErrForeign. A dynamic
// entry is replaced.
//
// An entry is written to the link that the last Resolve of this Table saw under
// its name, whatever name that has by now: of that one it is true. The caller, who
// hears of it, resolves again.
//
// When Pin returns nil the kernel has acknowledged every entry.
func (t *Table) Pin(ctx context.Context, neighbors []Neighbor) error {
	links := t.newLinkCache()
	var errs []error
	for some := range slices.Chunk(neighbors, rtnetlink.AtOnce) {
		errs = append(errs, t.pinSome(ctx, links, some)...)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// toPin is an entry on its way.
type toPin struct {
	Neighbor
	pin rtnetlink.Pin
	err error
}

// pinSome writes the entries in one go, and looks again after those that were
// there before.
func (t *Table) pinSome(ctx context.Context, links linkCache, neighbors []Neighbor) (errs []error) {
	entries := make([]toPin, 0, len(neighbors))
	for _, n := range neighbors {
		if n.Source == SourceExisting {
			continue
		}
		p, err := t.toPin(ctx, links, n)
		if err != nil {
			errs = append(errs, &EntryError{Op: "pin", Dst: n.Dst, Dev: n.Dev, Err: err})
			continue
		}
		entries = append(entries, p)
	}
	t.write(ctx, entries)
	for _, p := range entries {
		err := p.err
		for range pinAttempts {
			if !errors.Is(err, unix.EEXIST) {
				break
			}
			err = t.pinOver(ctx, p.pin, p.LLAddr)
		}
		if errors.Is(err, unix.EEXIST) {
			err = fmt.Errorf("the entry changes faster than it can be pinned: %w", err)
		}
		if err != nil {
			errs = append(errs, &EntryError{Op: "pin", Dst: p.Dst, Dev: p.Dev, Err: err})
			continue
		}
		t.mu.Lock()
		t.ours[p.pin.Key] = p.LLAddr
		t.mu.Unlock()
	}
	return errs
}

// toPin checks an entry and finds its link.
func (t *Table) toPin(ctx context.Context, links linkCache, n Neighbor) (p toPin, err error) {
	lladdr, ok := n.LLAddr.bytes()
	if !ok || !n.LLAddr.IsUnicast() {
		return p, fmt.Errorf("%q is not the link-layer address of one station", n.LLAddr)
	}
	if !isTarget(n.Dst) {
		return p, errors.New("not a unicast address")
	}
	index, resolved := t.resolved(n.Dev)
	if !resolved {
		if index, err = links.index(ctx, n.Dev); err != nil {
			return p, err
		}
	}
	return toPin{Neighbor: n, pin: rtnetlink.Pin{Key: key{Dst: n.Dst.WithZone(""), Index: index}, LLAddr: lladdr, Protocol: Protocol}}, nil
}

// write makes entries where there are none; the others have EEXIST. It notes how
// each went, which for all but the last the kernel only tells if it did not go
// well.
func (t *Table) write(ctx context.Context, entries []toPin) {
	if len(entries) == 0 {
		return
	}
	err := t.conn.AddEntries(ctx, len(entries), func(i int) rtnetlink.Pin { return entries[i].pin },
		func(i int, refused error) { entries[i].err = refused })
	if err != nil {
		for i := range entries {
			entries[i].err = err
		}
	}
}

// pinOver pins where an entry is already. It gives EEXIST when the entry has
// changed meanwhile and has to be looked at again.
func (t *Table) pinOver(ctx context.Context, p rtnetlink.Pin, want HardwareAddr) error {
	e, err := t.conn.Entry(ctx, p.Key)
	if err != nil {
		return err
	}
	is := HardwareAddr(e.LLAddr)
	how := rtnetlink.Replace
	switch {
	case !e.Dst.IsValid():
		how = rtnetlink.IfAbsent // gone meanwhile
	case e.Permanent() && is == want:
		return nil
	case e.Permanent() && !t.mayReplace(p.Key, is):
		return fmt.Errorf("%w (it says %q)", ErrForeign, is)
	case !e.Permanent() && (!e.Valid() || is == want):
		how = rtnetlink.IfSame // should another come up at this moment, it is safe
	}
	if err := t.conn.SetEntry(ctx, p, how); err != nil || how == rtnetlink.IfAbsent {
		return err
	}
	if e, err = t.conn.Entry(ctx, p.Key); err != nil {
		return err
	}
	if !e.Permanent() || HardwareAddr(e.LLAddr) != want {
		return unix.EEXIST
	}
	return nil
}

// resolved is the link that the last Resolve has seen under a name, if it has seen
// one.
func (t *Table) resolved(name string) (index int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	index, ok = t.names[name]
	return index, ok
}

func (t *Table) mayReplace(k key, lladdr HardwareAddr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	ours, ok := t.ours[k]
	return ok && ours == lladdr
}

// Release removes the entries that are still ours: permanent, with the address
// that we gave them, and with our mark. It works through all and returns those
// it removed; an entry or a link that is gone already is no error. Errors are an
// *EntryError each, joined.
func (t *Table) Release(ctx context.Context, owned []Neighbor) (released []Neighbor, err error) {
	links := t.newLinkCache()
	var errs []error
	for _, n := range owned {
		if n.Source == SourceExisting {
			continue
		}
		ok, err := t.release(ctx, links, n)
		if ok {
			released = append(released, n)
		}
		if err != nil {
			errs = append(errs, &EntryError{Op: "release", Dst: n.Dst, Dev: n.Dev, Err: err})
			if ctx.Err() != nil {
				break
			}
		}
	}
	return released, errors.Join(errs...)
}

func (t *Table) release(ctx context.Context, links linkCache, n Neighbor) (bool, error) {
	index, err := links.index(ctx, n.Dev)
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	k := key{Dst: n.Dst.WithZone(""), Index: index}
	e, err := t.conn.Entry(ctx, k)
	if err != nil || !e.Permanent() || HardwareAddr(e.LLAddr) != n.LLAddr || e.Protocol != Protocol {
		return false, err
	}
	switch err := t.conn.RemoveEntry(ctx, k); {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		return false, nil // somebody was quicker
	case err != nil:
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.ours, k)
	return true, nil
}

// linkCache finds the numbers of links for the length of one call.
type linkCache struct {
	conn  *rtnetlink.Conn
	known map[string]int
}

func (t *Table) newLinkCache() linkCache { return linkCache{conn: t.conn, known: make(map[string]int)} }

// index gives ENODEV when no link has that name. Alternative names are not
// accepted: they may be given to another link.
func (c linkCache) index(ctx context.Context, name string) (int, error) {
	if index, ok := c.known[name]; ok {
		return index, nil
	}
	if name == "" || len(name) >= unix.IFNAMSIZ {
		return 0, fmt.Errorf("no link can have that name: %w", unix.ENODEV)
	}
	l, err := c.conn.LinkByName(ctx, name)
	if err == nil && l.Name != name {
		err = unix.ENODEV
	}
	if err != nil {
		return 0, fmt.Errorf("find link: %w", err)
	}
	c.known[name] = l.Index
	return l.Index, nil
}
