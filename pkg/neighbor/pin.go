// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
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
	for some := range slices.Chunk(neighbors, atOnce) {
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
	key
	lladdr [hwaddrLen]byte
	err    error
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
			err = t.pinOver(ctx, p.key, p.LLAddr, p.lladdr)
		}
		if errors.Is(err, unix.EEXIST) {
			err = fmt.Errorf("the entry changes faster than it can be pinned: %w", err)
		}
		if err != nil {
			errs = append(errs, &EntryError{Op: "pin", Dst: p.Dst, Dev: p.Dev, Err: err})
			continue
		}
		t.mu.Lock()
		t.ours[p.key] = p.LLAddr
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
	return toPin{Neighbor: n, key: key{dst: n.Dst.WithZone(""), index: index}, lladdr: lladdr}, nil
}

// write makes entries where there are none; the others have EEXIST. It notes how
// each went, which for all but the last the kernel only tells if it did not go
// well.
func (t *Table) write(ctx context.Context, entries []toPin) {
	if len(entries) == 0 {
		return
	}
	requests := make([]*request, len(entries))
	for i, p := range entries {
		// EXCL, so that nobody's entry is changed by it.
		requests[i] = setRequest(p.key.dst, p.key.index, p.lladdr, unix.NLM_F_EXCL)
	}
	requests[len(requests)-1].flag(unix.NLM_F_ACK)
	err := t.conn.exchange(ctx, func(i int, _ []byte, refused error) { entries[i].err = refused }, requests...)
	if err != nil {
		for i := range entries {
			entries[i].err = err
		}
	}
}

// pinOver pins where an entry is already. It gives EEXIST when the entry has
// changed meanwhile and has to be looked at again.
func (t *Table) pinOver(ctx context.Context, k key, want HardwareAddr, lladdr [hwaddrLen]byte) error {
	e, err := t.conn.entry(ctx, k.dst, k.index)
	if err != nil {
		return err
	}
	how := unix.NLM_F_REPLACE
	switch {
	case !e.dst.IsValid():
		how = unix.NLM_F_EXCL // gone meanwhile
	case e.permanent() && e.lladdr == want:
		return nil
	case e.permanent() && !t.mayReplace(k, e.lladdr):
		return fmt.Errorf("%w (it says %q)", ErrForeign, e.lladdr)
	case !e.permanent() && (!e.valid() || e.lladdr == want):
		// Without REPLACE the kernel leaves alone a valid entry with another
		// address, and says so to nobody (net/core/neighbour.c,
		// __neigh_update): should one come up at this moment, it is safe.
		how = 0
	}
	if err := t.conn.setEntry(ctx, k.dst, k.index, lladdr, how); err != nil || how == unix.NLM_F_EXCL {
		return err
	}
	if e, err = t.conn.entry(ctx, k.dst, k.index); err != nil {
		return err
	}
	if !e.permanent() || e.lladdr != want {
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
	dst := n.Dst.WithZone("")
	e, err := t.conn.entry(ctx, dst, index)
	if err != nil || !e.permanent() || e.lladdr != n.LLAddr || e.protocol != Protocol {
		return false, err
	}
	switch err := t.conn.removeEntry(ctx, dst, index); {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		return false, nil // somebody was quicker
	case err != nil:
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.ours, key{dst: dst, index: index})
	return true, nil
}

// linkCache finds the numbers of links for the length of one call.
type linkCache struct {
	conn  *conn
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
	l, err := get(ctx, c.conn, linkNameRequest(name), parseLink)
	if err == nil && l.name != name {
		err = unix.ENODEV
	}
	if err != nil {
		return 0, fmt.Errorf("find link: %w", err)
	}
	c.known[name] = l.index
	return l.index, nil
}
