// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// answerTimeout ends a request whose context has no earlier end. The kernel
	// works on a request while it is being sent, so that waiting for the answer
	// is the exception: the answer was lost for want of memory.
	answerTimeout = 10 * time.Second
	// waitAtOnce is how long that waiting goes on without a look at whether it is
	// still wanted.
	waitAtOnce = 20 * time.Millisecond
	// answerAtMost is more than any message has.
	answerAtMost = 1 << 20
)

// room makes the buffer for answers so large at least.
func (c *Conn) room(size int) {
	if size > len(c.in) {
		c.in = make([]byte, size)
	}
}

// makeRoom makes it large enough for any part of a dump.
func (c *Conn) makeRoom() {
	c.request.Lock()
	defer c.request.Unlock()
	c.room(dumpSize)
}

// wait bounds the waiting for answers.
type wait struct {
	ctx  context.Context
	end  time.Time
	ends bool // with ctx
}

// receive reads once. cut: there was more than room for; there will be. What was
// lost gives errLost.
func (c *Conn) receive(w *wait) (b []byte, cut bool, err error) {
	for {
		n, from, err := unix.Recvfrom(c.fd, c.in, unix.MSG_TRUNC)
		switch kernel, ok := from.(*unix.SockaddrNetlink); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if err := c.await(w); err != nil {
				return nil, false, err
			}
		case errors.Is(err, unix.ENOBUFS):
			if err := c.empty(w.ctx); err != nil {
				return nil, false, err
			}
			return nil, false, errLost
		case err != nil:
			return nil, false, err
		case !ok || kernel.Pid != 0: // sent before the socket was connected
		case n > answerAtMost:
			return nil, false, fmt.Errorf("receive an answer of %d bytes: %w", n, ErrMalformed)
		case n > len(c.in):
			b = c.in
			c.in = make([]byte, n+answerSize)
			return b, true, nil
		default:
			return c.in[:n], false, nil
		}
	}
}

// empty throws away what is left in the queue. As long as there is something the
// kernel drops every answer, and does not say so again (net/netlink/af_netlink.c,
// NETLINK_S_CONGESTED).
func (c *Conn) empty(ctx context.Context) error {
	for {
		if err := c.unwanted(ctx); err != nil {
			return err
		}
		_, _, err := unix.Recvfrom(c.fd, c.in, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS):
			return err
		}
	}
}

// unwanted says why nobody waits for answers any more; nil if somebody does.
func (c *Conn) unwanted(ctx context.Context) error {
	if c.closed.Load() {
		return os.ErrClosed
	}
	return ctx.Err()
}

// await waits a while for an answer, and says why no longer.
func (c *Conn) await(w *wait) error {
	if w.end.IsZero() {
		w.end = time.Now().Add(answerTimeout)
		if end, ok := w.ctx.Deadline(); ok && end.Before(w.end) {
			w.end, w.ends = end, true
		}
	}
	if err := c.unwanted(w.ctx); err != nil {
		return err
	}
	left := time.Until(w.end)
	switch {
	case left <= 0 && w.ends:
		return context.DeadlineExceeded
	case left <= 0:
		return os.ErrDeadlineExceeded
	}
	timeout := unix.NsecToTimespec(min(left, waitAtOnce).Nanoseconds())
	_, err := unix.Ppoll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, &timeout, nil)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}
