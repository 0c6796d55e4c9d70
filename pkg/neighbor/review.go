// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// Review judges the entries that the caller knows by what the host says now,
// without reading routes: for a sandbox whose runtime has taken the addresses and
// routes. It changes nothing.
//
// Known names the entries. Neighbors has what is true now, with the same link and
// IP address as there, the link-layer address of now and the state that the
// kernel's entry is in; Skipped has what has no truth any more. One of
// SourceExisting of which the host knows nothing stays as it is, and so does one
// of SourceLearned that Learned does not have. The sandbox is taken for Running.
// Limit does not count, and Unknown stays empty: the addresses to ask from are
// those that Resolve gave before.
//
// Outdated has the permanent entries for these gateways that carry our Protocol
// and say something else than what is true now, or anything where nothing is. That
// the mark alone makes them ours is for namespaces whose tables nobody else uses
// any more: a process that ended between writing and recording has left no better
// trace of what it wrote.
//
// A link that has left the sandbox, as when a program takes it into a namespace of
// its own, is judged by its other end if Ends tells that: what is true of a
// gateway does not depend on where the link is. Neighbors of such links have no
// State, since no entry of the sandbox's tables is theirs.
//
// The error is as Resolve's.
func (t *Table) Review(ctx context.Context, q Query) (Resolution, error) {
	q.Running = true
	r := t.newResolver(q)
	links := make(map[string]reviewed)
	for _, n := range q.Known {
		if err := r.review(ctx, links, n); err != nil {
			return Resolution{}, fmt.Errorf("review neighbors of %s: %w", plain.Text(t.path), err)
		}
	}
	r.result.Basis, r.result.Sought = r.basis, r.sought
	return r.result, nil
}

// reviewed is a link of the sandbox and what lies beyond it.
type reviewed struct {
	rtnetlink.Link
	outlook
	moved bool // the link is not in the sandbox any more, its other end is where it was
}

func (r *resolver) review(ctx context.Context, links map[string]reviewed, n Neighbor) error {
	n.Dst = n.Dst.WithZone("")
	at, ok := links[n.Dev]
	if !ok {
		var err error
		if at, err = r.reviewLink(ctx, n.Dev); err != nil {
			return err
		}
		links[n.Dev] = at
	}
	k := key{Dst: n.Dst, Index: at.Index}
	if at.Index == 0 && !at.moved {
		r.skip(k, at.Link, linkGone())
		return nil
	}
	if !isTarget(n.Dst) {
		r.skip(k, at.Link, no(ReasonInvalidTarget, "the gateway is no unicast address"))
		return nil
	}
	v, err := r.truth(ctx, at.outlook, n.Dst, at.Link)
	if err != nil {
		return err
	}
	v = stillTrue(n, v)
	var e rtnetlink.Entry
	if !at.moved {
		e, err = r.conn.Entry(ctx, k)
		if err != nil && !errors.Is(err, unix.ENODEV) { // the state of what is gone is NONE
			return fmt.Errorf("read neighbor %s on %s: %w", k.Dst, plain.Text(n.Dev), err)
		}
	}
	if e.Permanent() && e.Protocol == Protocol && v.lladdr != HardwareAddr(e.LLAddr) {
		r.outdated(k, at.Link, e)
	}
	if !v.known() {
		r.skip(k, at.Link, v)
		return nil
	}
	r.found(k.Dst, at.Link, e, v)
	if at.moved {
		r.result.Neighbors[len(r.result.Neighbors)-1].State = nil
	}
	return nil
}

// reviewLink reads a link by its name. Number 0 means that it is gone.
func (r *resolver) reviewLink(ctx context.Context, name string) (reviewed, error) {
	index, err := r.newLinkCache().index(ctx, name)
	if errors.Is(err, unix.ENODEV) {
		return r.reviewEnd(ctx, name)
	} else if err != nil {
		return reviewed{}, err
	}
	l, err := r.conn.Link(ctx, index, rtnetlink.NSIDNone)
	if errors.Is(err, unix.ENODEV) || err == nil && l.Name != name {
		return reviewed{Link: rtnetlink.Link{Name: name}}, nil
	} else if err != nil {
		return reviewed{}, fmt.Errorf("read link %s: %w", plain.Text(name), err)
	}
	o, err := r.outlook(ctx, l)
	if err == nil {
		err = r.noteEnd(ctx, l, o)
	}
	return reviewed{Link: l, outlook: o}, err
}

// stillTrue turns what is known from outside into what becomes of a known entry.
func stillTrue(n Neighbor, v finding) finding {
	kept := finding{lladdr: n.LLAddr, source: n.Source}
	switch {
	case n.Source == SourceExisting && v.known() && v.lladdr != n.LLAddr:
		return contested(n.LLAddr, v)
	case n.Source == SourceExisting:
		return kept
	case n.Source == SourceLearned && !v.known() && v.reason.Learnable():
		return kept
	}
	return v
}
