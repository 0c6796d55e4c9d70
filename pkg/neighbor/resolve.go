// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// DefaultLimit is how many gateways of one sandbox are looked after unless
// something else is asked for.
const DefaultLimit = 64

// Query is what the caller of Resolve knows and wants.
type Query struct {
	// Known are the entries that the caller has pinned in this very namespace
	// before, and those of SourceExisting that it found there.
	Known []Neighbor

	// Limit bounds the gateways and with them the work; zero or less stands for
	// DefaultLimit. Where there are more, default routes come first, and Skipped
	// has one entry with ReasonLimitReached.
	Limit int

	// Learned are addresses that the caller has learned on the wire. They are used
	// only where the host knows none and the reason is Learnable.
	Learned []Neighbor

	// Ends is what Resolution.Ends said. Review goes by it for links that are not
	// in the sandbox any more.
	Ends map[string]int

	// Running says that the sandbox's own programs run already: what is found in
	// its tables now may be theirs, and is nobody's truth for being there.
	//
	// A permanent entry where Known has one of ours with another address has
	// drifted: Outdated lists it, and Pin may replace it. Any other that Known
	// does not have is SourceExisting only if the host says the same, else it is
	// skipped as ReasonContested, or as ReasonUnowned where the host says
	// nothing. An other end outside this process's namespace is believed only
	// when Known has the very same entry (ReasonPeerElsewhere).
	Running bool

	// Shared are what earlier calls read of the host, and this one may go by; nil
	// for none.
	Shared *Readings

	// Vacant are gateways in whose place nobody had an entry when the sandbox's
	// programs began to run. While it is Running, a permanent entry that is found
	// there and contradicts the host has drifted as one of Known's has.
	Vacant []Gateway
}

// Gateway names a gateway of one sandbox.
type Gateway struct {
	Dst netip.Addr `json:"dst"`
	Dev string     `json:"dev"` // name of the link inside the namespace
}

// Gateway is the one that the entry is for.
func (n Neighbor) Gateway() Gateway { return Gateway{n.Dst, n.Dev} }

// Gateway is the one that is not pinned.
func (s Skipped) Gateway() Gateway { return Gateway{s.Dst, s.Dev} }

// Gateway is the one that is asked for.
func (a Ask) Gateway() Gateway { return Gateway{a.Dst, a.Dev} }

// Resolve finds the gateways of the namespace and what the host knows about
// them. It changes nothing there.
//
// Permanent entries of others are listed as SourceExisting. One is ours, and
// not of that kind, when Known has it with the same link and address, or when it
// carries our Protocol and agrees with what the host knows.
//
// The error wraps ErrInterrupted when the namespace changed faster than it could
// be read, and is ctx's when that ended.
func (t *Table) Resolve(ctx context.Context, q Query) (Resolution, error) {
	r, err := t.resolveBy(ctx, q, t.readLink)
	if err != nil {
		return Resolution{}, fmt.Errorf("resolve gateways of %s: %w", plain.Text(t.path), err)
	}
	r.result.Basis, r.result.Sought = r.basis, r.sought
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ours, t.names = r.ours, r.names
	return r.result, nil
}

// resolveAttempts is how often a namespace is resolved that a runtime takes
// meanwhile. Once more is enough.
const resolveAttempts = 3

// linkReader is what readLink is.
type linkReader func(ctx context.Context, index int, gateways []key) (rtnetlink.Link, []rtnetlink.Looked, error)

func (t *Table) resolveBy(ctx context.Context, q Query, read linkReader) (*resolver, error) {
	for range resolveAttempts {
		r := t.newResolver(q)
		r.read = read
		if err := r.resolve(ctx); err != nil {
			return nil, err
		}
		if overtaken, err := r.overtaken(ctx); err != nil || !overtaken {
			return r, err
		}
	}
	return nil, ErrInterrupted
}

// overtaken tells whether a gateway that was known has lost its route since the
// routes were read, and with it the entry that was looked for afterwards: the
// namespace was being taken, and whoever believes that the entry was lost would
// write it again into tables that nobody uses any more. The kernel flushes the
// routes of an IPv4 address before the entries (net/ipv4/fib_frontend.c,
// fib_disable_ip).
func (r *resolver) overtaken(ctx context.Context) (bool, error) {
	if len(r.lost) == 0 {
		return false, nil
	}
	now, dropped, err := r.gateways(ctx, r.limit())
	return err == nil && !dropped && slices.ContainsFunc(r.lost, func(k key) bool { return !slices.Contains(now, k) }), err
}

// resolver is one call of Resolve or Review.
type resolver struct {
	survey
	read   linkReader
	query  Query
	ours   map[key]HardwareAddr
	names  map[string]int
	lost   []key // IPv4 gateways that the caller knows and whose entry is not there
	result Resolution
}

func (t *Table) newResolver(q Query) *resolver {
	r := &resolver{survey: t.newSurvey(), read: t.readLink, query: q, ours: make(map[key]HardwareAddr), names: make(map[string]int)}
	r.share(q.Shared)
	return r
}

func (r *resolver) resolve(ctx context.Context) error {
	limit := r.limit()
	gateways, dropped, err := r.gateways(ctx, limit)
	if err != nil {
		return err
	}
	// An IPv4 route does not outlive the last IPv4 address of its link
	// (net/ipv4/fib_frontend.c, fib_disable_ip), so one is answer enough.
	if !slices.ContainsFunc(gateways, func(k key) bool { return k.Dst.Is4() }) {
		if r.result.HandedOver, err = r.handedOver(ctx); err != nil || r.result.HandedOver {
			return err
		}
	}
	// The list is in the order of links.
	for len(gateways) > 0 {
		index := gateways[0].Index
		n := slices.IndexFunc(gateways, func(k key) bool { return k.Index != index })
		if n < 0 {
			n = len(gateways)
		}
		if err := r.resolveLink(ctx, index, gateways[:n]); err != nil {
			return err
		}
		gateways = gateways[n:]
	}
	if dropped {
		r.result.Skipped = append(r.result.Skipped, Skipped{Reason: ReasonLimitReached,
			Message: "there are more gateways than the limit of " + strconv.Itoa(limit)})
	}
	return nil
}

func (r *resolver) limit() int {
	if r.query.Limit <= 0 {
		return DefaultLimit
	}
	return r.query.Limit
}

// resolveLink settles the gateways that are reached over one link.
func (r *resolver) resolveLink(ctx context.Context, index int, gateways []key) error {
	l, entries, err := r.read(ctx, index, gateways)
	if errors.Is(err, unix.ENODEV) {
		for _, k := range gateways {
			r.skip(k, rtnetlink.Link{Name: "link " + strconv.Itoa(index)}, linkGone())
		}
		return nil
	} else if err != nil {
		return fmt.Errorf("read link %d: %w", index, err)
	}
	if l.Loopback() {
		return nil
	}
	if _, twice := r.names[l.Name]; twice {
		return fmt.Errorf("read link %d: it has the name of one read before: %w", index, ErrInterrupted)
	}
	r.names[l.Name] = l.Index
	o, err := r.outlook(ctx, l)
	if err != nil {
		return err
	}
	if err := r.noteEnd(ctx, l, o); err != nil {
		return err
	}
	for i, k := range gateways {
		if err := r.resolveGateway(ctx, k, l, o, entries[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) resolveGateway(ctx context.Context, k key, l rtnetlink.Link, o outlook, at rtnetlink.Looked) error {
	if v := unfit(k, l); !v.known() {
		r.skip(k, l, v)
		return nil
	}
	if errors.Is(at.Err, unix.ENODEV) {
		r.skip(k, l, linkGone())
		return nil
	} else if at.Err != nil {
		return fmt.Errorf("read neighbor %s on %s: %w", k.Dst, plain.Text(l.Name), at.Err)
	}
	e := at.Entry
	if _, known := find(r.query.Known, k.Dst, l.Name); known && !e.Permanent() && k.Dst.Is4() {
		r.lost = append(r.lost, k)
	}
	v, err := r.truth(ctx, o, k.Dst, l)
	if err != nil {
		return err
	}
	if e.Permanent() {
		if r.isOurs(k, l, e, v) {
			r.ours[k] = HardwareAddr(e.LLAddr)
			if v.lladdr != HardwareAddr(e.LLAddr) {
				r.outdated(k, l, e)
			}
		} else {
			v = r.existing(k, l, e, v)
		}
	}
	if !v.known() {
		r.skip(k, l, v)
		return r.askInstead(ctx, k, l, v.reason)
	}
	r.found(k.Dst, l, e, v)
	return nil
}

func (r *resolver) found(dst netip.Addr, l rtnetlink.Link, e rtnetlink.Entry, v finding) {
	r.result.Neighbors = append(r.result.Neighbors, Neighbor{Dst: dst, Dev: l.Name, LLAddr: v.lladdr,
		Family: FamilyOf(dst), State: e.States(), Source: v.source})
}

func (r *resolver) outdated(k key, l rtnetlink.Link, e rtnetlink.Entry) {
	r.result.Outdated = append(r.result.Outdated, Neighbor{Dst: k.Dst, Dev: l.Name, LLAddr: HardwareAddr(e.LLAddr),
		Family: FamilyOf(k.Dst), State: e.States()})
}

func linkGone() finding { return no(ReasonLinkGone, "the link was removed meanwhile") }

// unfit names what speaks against an entry whatever the host knows.
func unfit(k key, l rtnetlink.Link) finding {
	switch {
	case !plain.Is(l.Name):
		return no(ReasonUnsafeName, "the link's name is not printable ASCII")
	case l.NoARP():
		return no(ReasonNoARP, "the link does not resolve addresses (NOARP)")
	case !isTarget(k.Dst):
		return no(ReasonInvalidTarget, "the gateway is no unicast address")
	case !k.Dst.Is4() && !l.Inet6:
		return no(ReasonIPv6Disabled, "IPv6 is disabled on the link, which then takes no entry")
	}
	return finding{}
}

func (r *resolver) skip(k key, l rtnetlink.Link, v finding) {
	r.result.Skipped = append(r.result.Skipped,
		Skipped{Dst: k.Dst, Dev: plain.Text(l.Name), Reason: v.reason, Message: v.message})
}

// handedOver tells whether a runtime has taken the namespace's addresses away.
// Its routes prove nothing: IPv4's go with their address, a static IPv6 route by
// way of a gateway stays (net/ipv6/addrconf.c, cleanup_prefix_route).
func (t *Table) handedOver(ctx context.Context) (bool, error) {
	var up bool
	loopback := 0
	err := t.conn.Links(ctx, rtnetlink.NSIDNone, func() { up, loopback = false, 0 }, func(l rtnetlink.Link) {
		if l.Loopback() {
			loopback = l.Index // a namespace has one, and cannot get another
		} else if l.Up() {
			up = true
		}
	})
	if err != nil {
		return false, fmt.Errorf("read links: %w", err)
	}
	if !up {
		return false, nil
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		var global bool
		err := t.conn.Addrs(ctx, family, 0, rtnetlink.NSIDNone, func() { global = false }, func(a rtnetlink.Addr) {
			global = global || a.Index != loopback && a.Global()
		})
		if err != nil && !rtnetlink.NoFamily(err) {
			return false, fmt.Errorf("read addresses: %w", err)
		}
		if global {
			return false, nil
		}
	}
	return true, nil
}
