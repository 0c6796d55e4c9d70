// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// lossesAtMost is how often answers may be lost before their requests are given up.
const lossesAtMost = 10

// get sends a request that is answered by one message, and reads that. parse must
// not keep it.
func get[T any](ctx context.Context, c *Conn, r *request, parse func(body []byte) (T, error)) (v T, err error) {
	failed := c.exchange(ctx, func(_ int, body []byte, refused error) {
		if err = refused; err == nil {
			v, err = parse(body)
		}
	}, r)
	if failed != nil {
		return *new(T), failed
	}
	return v, err
}

// set sends a request that changes something and waits until the kernel has
// done it.
func (c *Conn) set(ctx context.Context, r *request) (err error) {
	failed := c.exchange(ctx, func(_ int, _ []byte, refused error) { err = refused }, r.flag(unix.NLM_F_ACK))
	if failed != nil {
		return failed
	}
	return err
}

// exchange sends requests in one go and gives what becomes of each to answered, in
// their order: a message's body, which is not to be kept, or the kernel's refusal.
// Of requests that change something and do not ask for an acknowledgement, a
// refusal only is given; the last has to be one that is answered.
//
// Where the answers have no room in the socket's queue, the requests are sent
// again, each by itself. What one changed before stands, and the kernel may refuse
// it now.
func (c *Conn) exchange(ctx context.Context, answered func(i int, body []byte, refused error), requests ...*request) error {
	c.request.Lock()
	defer c.request.Unlock()
	losses, together := 0, len(requests)
	for done := 0; done < len(requests); {
		n, err := c.exchangeOnce(ctx, answered, done, requests[done:min(done+together, len(requests))])
		done += n
		switch {
		case errors.Is(err, errLost) && losses < lossesAtMost:
			losses, together = losses+1, 1
			for _, r := range requests[done:] {
				r.beAnswered()
			}
		case err != nil && !errors.Is(err, errCut):
			return err
		}
	}
	return nil
}

// exchangeOnce returns how many of the requests are done; with errCut the next one
// wants to be sent again.
func (c *Conn) exchangeOnce(ctx context.Context, answered func(i int, body []byte, refused error), offset int, requests []*request) (int, error) {
	last, err := c.send(ctx, requests...)
	if err != nil {
		return 0, err
	}
	wait := &wait{ctx: ctx}
	for {
		rest, cut, err := c.receive(wait)
		if err != nil {
			return 0, err
		}
		for m, ok := next(&rest); ok; m, ok = next(&rest) {
			behind := last - m.number
			if behind >= uint32(len(requests)) {
				continue // of one before, whose answer was not waited for
			}
			i := len(requests) - 1 - int(behind)
			switch {
			case cut:
				return i, errCut
			case m.kind == unix.NLMSG_ERROR:
				answered(offset+i, nil, m.failure())
			default:
				answered(offset+i, m.body, nil)
			}
			if behind == 0 {
				return len(requests), nil
			}
		}
	}
}

// send sends requests and returns the number of the last.
func (c *Conn) send(ctx context.Context, requests ...*request) (last uint32, err error) {
	if err := c.unwanted(ctx); err != nil {
		return 0, err
	}
	c.out = c.out[:0]
	for _, r := range requests {
		c.number++
		c.out = r.append(c.out, c.number)
	}
	for {
		if _, err = unix.Write(c.fd, c.out); err != unix.EINTR {
			return c.number, err
		}
	}
}
