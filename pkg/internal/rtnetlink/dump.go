// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"context"
	"errors"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// dumpAttempts is how often a dump that was interrupted is started over.
	dumpAttempts = 10
	// emptyAtMost is how many parts of a dump may have nothing in them. Two are made
	// before the kernel knows of more room.
	emptyAtMost = 8
	// dumpSize is room for the greatest part of a dump that the kernel makes at once
	// if it is let (net/netlink/af_netlink.c, netlink_recvmsg); the first parts of a
	// dump are a page anyway.
	dumpSize = 32 << 10
)

// list reads all that a dump request is answered with.
func list[T any](ctx context.Context, c *Conn, r *request, parse func(body []byte) (T, error), begin func(), each func(T)) error {
	return c.dump(ctx, r, begin, func(body []byte) error {
		v, err := parse(body)
		if err == nil {
			each(v)
		}
		return err
	})
}

// dump sends a dump request and gives the body of each message of the answer to
// each, which must not keep it. When the kernel says that the answer is
// inconsistent it starts over, with begin called before every attempt. An error
// of each ends it.
func (c *Conn) dump(ctx context.Context, r *request, begin func(), each func(body []byte) error) error {
	r.flag(unix.NLM_F_DUMP)
	return uninterrupted(func() error {
		begin()
		c.request.Lock()
		defer c.request.Unlock()
		return c.dumpOnce(ctx, r, each)
	})
}

// uninterrupted tries a dump until it is whole.
func uninterrupted(try func() error) error {
	var err error
	for range dumpAttempts {
		if err = try(); !startsOver(err) {
			return err
		}
	}
	if errors.Is(err, errLost) || errors.Is(err, ErrTooLong) {
		return err
	}
	return ErrInterrupted
}

func startsOver(err error) bool {
	for _, one := range []error{nl.ErrDumpInterrupted, unix.EBUSY, errCut, errLost, ErrTooLong} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

func (c *Conn) dumpOnce(ctx context.Context, r *request, each func(body []byte) error) error {
	number, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	var interrupted error
	d := dump{wait: wait{ctx: ctx}}
	for {
		rest, err := c.part(&d)
		if err != nil {
			return err
		}
		for m, ok := next(&rest); ok; m, ok = next(&rest) {
			switch {
			case m.number != number: // of a dump before, that was not read to its end
			case m.kind == unix.NLMSG_ERROR:
				refused := m.failure()
				if errors.Is(refused, unix.EBUSY) {
					if err := c.drain(&d); err != nil {
						return err
					}
				}
				return refused
			case m.interrupted():
				interrupted = nl.ErrDumpInterrupted
			}
			if m.number == number && m.kind == unix.NLMSG_DONE {
				return errors.Join(c.ended(m.failure()), interrupted)
			}
			if m.number == number && m.kind >= unix.NLMSG_MIN_TYPE && interrupted == nil {
				if err := each(m.body); err != nil {
					return err
				}
			}
		}
	}
}

// dump is one that is being read.
type dump struct {
	wait  wait
	parts int
	empty int // parts that had nothing in them, one after the other
}

// part reads the next part of a dump. One that is cut off may have been the last,
// and is errCut.
func (c *Conn) part(d *dump) (messages []byte, err error) {
	if d.parts++; d.parts == 3 {
		c.room(dumpSize) // it is a long one
	}
	messages, cut, err := c.receive(&d.wait)
	if err == nil {
		err = c.unwanted(d.wait.ctx)
	}
	switch {
	case err != nil:
		return nil, err
	case cut:
		return nil, errCut
	case len(messages) > 0:
		d.empty = 0
		return messages, nil
	}
	// For ever, if a route by way of a thousand gateways is next (net/ipv6/ip6_fib.c,
	// fib6_dump_node), unless there is room for it.
	c.room(dumpSize)
	if d.empty++; d.empty > emptyAtMost {
		return nil, ErrTooLong
	}
	return nil, nil
}

// ended is how a dump ended.
func (c *Conn) ended(err error) error {
	if errors.Is(err, unix.EMSGSIZE) {
		c.room(dumpSize)
		return ErrTooLong
	}
	return err
}

// drain reads the rest of a dump that was given up. Until then the kernel begins
// no other.
func (c *Conn) drain(d *dump) error {
	for {
		rest, err := c.part(d)
		if err != nil {
			return err
		}
		for m, ok := next(&rest); ok; m, ok = next(&rest) {
			if m.kind == unix.NLMSG_DONE {
				return nil
			}
		}
	}
}
