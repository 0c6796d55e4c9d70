// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink/nl"
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

	// dumpAttempts is how often a dump that was interrupted is started over.
	dumpAttempts = 10
	// emptyAtMost is how many parts of a dump may have nothing in them. Two are made
	// before the kernel knows of more room.
	emptyAtMost = 8
	// lossesAtMost is how often answers may be lost before their requests are
	// given up.
	lossesAtMost = 10

	// answerSize is room for any usual answer, and dumpSize for the greatest part
	// of a dump that the kernel makes at once if it is let (net/netlink/af_netlink.c,
	// netlink_recvmsg); the first parts of a dump are a page anyway.
	answerSize = 8 << 10
	dumpSize   = 32 << 10
	// answerAtMost is more than any message has.
	answerAtMost = 1 << 20
)

var (
	// errCut says that an answer was longer than there was room for. There is now.
	errCut = errors.New("the answer was cut off")
	// errLost says that the kernel could not leave an answer. There is room now.
	errLost = fmt.Errorf("answers of the kernel's were lost: %w", unix.ENOBUFS)
	// errTooLong says that a dump does not get beyond a message which is longer than
	// the part that the kernel made. The next part is as long as parts can be.
	errTooLong = fmt.Errorf("something is longer than the kernel lists: %w", unix.EMSGSIZE)
)

// conn is a route netlink socket for requests. It stays in the namespace that
// it was made in, and serves one caller at a time.
//
// The library's own requests (nl.NetlinkRequest) take three times the system
// calls and a buffer of 64 KiB for each answer.
type conn struct {
	closed atomic.Bool

	request sync.Mutex // held for a request and its answer, guards the following
	fd      int        // -1 once closed
	number  uint32     // of the last request
	out, in []byte
}

// dial makes a socket in the namespace of the calling thread.
func dial() (*conn, error) {
	fd, err := openSocket()
	if err != nil {
		return nil, err
	}
	return newConn(fd)
}

func openSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, fmt.Errorf("open netlink socket: %w", err)
	}
	return fd, nil
}

// newConn prepares a socket, which is closed if that fails.
func newConn(fd int) (*conn, error) {
	if err := prepareSocket(fd); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &conn{fd: fd, in: make([]byte, answerSize)}, nil
}

// prepareSocket has the socket listen to the kernel alone. Being connected to it,
// it takes no message from a process in the sandbox (net/netlink/af_netlink.c,
// netlink_getsockbyportid), which could fill its queue.
func prepareSocket(fd int) error {
	// Makes the kernel honour filters in dump requests, and refuse what it does
	// not know instead of ignoring it (Linux 4.20).
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1); err != nil {
		return fmt.Errorf("set strict checking on netlink socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1); err != nil {
		return fmt.Errorf("ask netlink socket for the kernel's own words: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("connect netlink socket to the kernel: %w", err)
	}
	return nil
}

// Close ends a request that waits, soon, and closes the socket.
func (c *conn) Close() {
	c.closed.Store(true)
	c.request.Lock()
	defer c.request.Unlock()
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
		c.fd = -1
	}
}

// dump sends a dump request and gives the body of each message of the answer to
// each, which must not keep it. When the kernel says that the answer is
// inconsistent it starts over, with begin called before every attempt. An error
// of each ends it.
func (c *conn) dump(ctx context.Context, r *request, begin func(), each func(body []byte) error) error {
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
	if errors.Is(err, errLost) || errors.Is(err, errTooLong) {
		return err
	}
	return ErrInterrupted
}

func startsOver(err error) bool {
	for _, one := range []error{nl.ErrDumpInterrupted, unix.EBUSY, errCut, errLost, errTooLong} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

func (c *conn) dumpOnce(ctx context.Context, r *request, each func(body []byte) error) error {
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
func (c *conn) part(d *dump) (messages []byte, err error) {
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
		return nil, errTooLong
	}
	return nil, nil
}

// ended is how a dump ended.
func (c *conn) ended(err error) error {
	if errors.Is(err, unix.EMSGSIZE) {
		c.room(dumpSize)
		return errTooLong
	}
	return err
}

// drain reads the rest of a dump that was given up. Until then the kernel begins
// no other.
func (c *conn) drain(d *dump) error {
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

// get sends a request that is answered by one message, and reads that. parse must
// not keep it.
func get[T any](ctx context.Context, c *conn, r *request, parse func(body []byte) (T, error)) (v T, err error) {
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
func (c *conn) set(ctx context.Context, r *request) (err error) {
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
func (c *conn) exchange(ctx context.Context, answered func(i int, body []byte, refused error), requests ...*request) error {
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
func (c *conn) exchangeOnce(ctx context.Context, answered func(i int, body []byte, refused error), offset int, requests []*request) (int, error) {
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
func (c *conn) send(ctx context.Context, requests ...*request) (last uint32, err error) {
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
