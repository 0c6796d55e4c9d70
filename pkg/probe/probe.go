// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

// What Options say by leaving it open.
const (
	defaultInterval = 10 * time.Millisecond
	defaultTimeout  = time.Second
)

const (
	// quiet is how long Gateways goes on listening for other claimants after
	// it has its answers.
	quiet = 20 * time.Millisecond

	// enoughAnswers of one station are needed, each to a question of its own.
	enoughAnswers = 2

	// maxPause bounds how late the end of a context is noticed.
	maxPause = 10 * time.Millisecond

	// maxClaimants bounds what strangers can make us remember.
	maxClaimants = 8
)

// Answer is what came of an Ask.
type Answer struct {
	Ask neighbor.Ask `json:"ask"`

	// LLAddrs are the addresses that stations claimed for Dst, in order of
	// appearance, at most eight: in answers, in announcements that nobody asked
	// for, and in ARP requests of their own.
	LLAddrs []neighbor.HardwareAddr `json:"lladdrs"`

	// Agreed is true when one station answered two questions and nobody else
	// claimed Dst. LLAddrs has its address then.
	Agreed bool `json:"agreed"`
}

// Options are the times of a probe. The zero value of each is its default.
type Options struct {
	// Interval is the time between two questions, 10 ms by default. It doubles
	// with each that nobody answers, so that a router that is away does not make
	// its segment carry broadcasts without end.
	Interval time.Duration

	// Timeout is when it gives up, one second by default.
	Timeout time.Duration
}

// Gateways asks on the wire, by ARP requests and neighbor solicitations of its own
// making, who has the addresses, and listens to everybody who claims one of them.
// It returns one Answer for each Ask, in their order: when each has two answers
// and 20 ms more have passed, or after the timeout.
//
// The kernel takes no part in it: neither its neighbor tables nor the sandbox's
// addresses and routes are read or changed, so that it also sees what a permanent
// entry hides, and works when a runtime has taken the addresses. It needs
// CAP_NET_RAW, without which the error wraps fs.ErrPermission. A link that is gone
// or down, or has another address than the Ask says, hears no answer, and IPv6 is
// not asked for without an address to ask from. Nothing of it is left in the
// namespace when it returns.
//
// A claim is the address inside the packet, which is what the kernel would take,
// whatever station sent the frame; it may be anybody's. What nobody would take
// for a claim is passed over: frames for others, such as those with a VLAN's tag,
// advertisements without the link-layer address, wrong checksums, addresses of
// groups.
func Gateways(ctx context.Context, ns *netns.NS, asks []neighbor.Ask, o Options) ([]Answer, error) {
	r, err := newRound(ns, asks, o)
	if err == nil {
		defer r.close()
		err = r.run(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("probe gateways in %s: %w", plain.Text(ns.Path()), err)
	}
	return r.answers()
}

// round is the work of one Gateways.
type round struct {
	asks      []neighbor.Ask
	sockets   []*socket
	inquiries []*inquiry // those of asks that can be put
}

func newRound(ns *netns.NS, asks []neighbor.Ask, o Options) (*round, error) {
	if o.Interval <= 0 {
		o.Interval = defaultInterval
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	r := &round{asks: asks}
	for _, a := range asks {
		if err := check(a); err != nil {
			return nil, &neighbor.EntryError{Op: "ask for", Dst: a.Dst, Dev: a.Dev, Err: err}
		}
	}
	if err := ns.Do(r.open); err != nil {
		r.close()
		return nil, err
	}
	now := time.Now()
	for _, q := range r.inquiries {
		q.next, q.pause, q.interval, q.end = now, o.Interval, o.Interval, now.Add(o.Timeout)
	}
	return r, nil
}

// check tells whether an Ask makes sense.
func check(a neighbor.Ask) error {
	switch {
	case !a.Dst.IsValid() || a.Dst.IsUnspecified() || a.Dst.IsMulticast() || a.Dst.Is4In6() || a.Dst.Zone() != "":
		return errors.New("not the address of one station")
	case a.Src.IsValid() && (a.Src.BitLen() != a.Dst.BitLen() || a.Src.Is4In6() || a.Src.Zone() != ""):
		return fmt.Errorf("%s cannot ask for it", a.Src)
	case !a.LLAddr.IsUnicast():
		return fmt.Errorf("the link's own address is %q", a.LLAddr)
	}
	return nil
}

// open makes a socket for each link and family, and what is to be sent by it.
func (r *round) open() error {
	type segment struct {
		dev string
		ip4 bool
	}
	targets := make(map[segment][]netip.Addr)
	for _, a := range r.asks {
		s := segment{a.Dev, a.Dst.Is4()}
		targets[s] = append(targets[s], a.Dst)
	}
	opened := make(map[segment]*socket)
	for _, a := range r.asks {
		src := a.Src
		switch {
		case src.IsValid():
		case a.Dst.Is4():
			src = netip.IPv4Unspecified()
		default:
			continue // from the unspecified address it would claim Dst for us (RFC 4862 section 5.4.3)
		}
		s := segment{a.Dev, a.Dst.Is4()}
		by, ok := opened[s]
		if !ok {
			made, err := openSocket(a.Dev, targets[s])
			if err != nil && !errors.Is(err, unix.ENODEV) {
				return err
			}
			if err == nil {
				by = made
				r.sockets = append(r.sockets, by)
			}
			opened[s] = by
		}
		if by != nil {
			r.inquiries = append(r.inquiries, &inquiry{ask: a, socket: by, asker: src, frame: question(a, src)})
		}
	}
	return nil
}

func (r *round) close() {
	for _, s := range r.sockets {
		s.close()
	}
}

// run asks and listens until the end.
func (r *round) run(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Before the next question, so that an answer counts for the one before.
		for _, s := range r.sockets {
			if err := s.claims(func(c claim) { r.hear(s, c) }); err != nil {
				return err
			}
		}
		wake, err := r.advance(time.Now())
		if err != nil || wake.IsZero() {
			return err
		}
		if err := r.wait(wake); err != nil {
			return err
		}
	}
}

func (r *round) hear(s *socket, c claim) {
	for _, q := range r.inquiries {
		if q.socket == s && q.ask.Dst == c.dst {
			q.hear(c, time.Now())
		}
	}
}

// advance puts the questions that are due, and says when there is something to do
// again; never, when the time is zero.
func (r *round) advance(now time.Time) (wake time.Time, err error) {
	for _, q := range r.inquiries {
		if !now.Before(q.end) {
			continue // but goes on hearing as long as others do
		}
		if err := q.put(now); err != nil {
			return time.Time{}, err
		}
		if at := q.wake(); wake.IsZero() || at.Before(wake) {
			wake = at
		}
	}
	return wake, nil
}

// wait waits for a frame or until then, but not so long that the end of the
// context is noticed late.
func (r *round) wait(until time.Time) error {
	list := make([]unix.PollFd, len(r.sockets))
	for i, s := range r.sockets {
		list[i] = unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN}
	}
	pause := unix.NsecToTimespec(max(0, min(time.Until(until), maxPause)).Nanoseconds())
	if _, err := unix.Ppoll(list, &pause, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for frames: %w", err)
	}
	return nil
}

func (r *round) answers() ([]Answer, error) {
	deaf := make(map[*socket]bool)
	for _, s := range r.sockets {
		var err error
		if deaf[s], err = s.deaf(); err != nil {
			return nil, err
		}
	}
	list := make([]Answer, 0, len(r.asks))
	for _, a := range r.asks {
		answer := Answer{Ask: a}
		if i := slices.IndexFunc(r.inquiries, func(q *inquiry) bool { return q.ask == a }); i >= 0 {
			q := r.inquiries[i]
			answer.LLAddrs = q.claimants
			answer.Agreed = q.agreed() && !deaf[q.socket]
		}
		list = append(list, answer)
	}
	return list, nil
}
