// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// receiveSize holds any message here and the largest part that the kernel
	// makes of a dump (32 KiB, net/netlink/af_netlink.c, netlink_recvmsg).
	receiveSize = 64 << 10

	// answerTimeout ends a request whose context has no earlier end. Route
	// netlink waits for the RTNL lock, which may be held for long on a busy node.
	answerTimeout = 10 * time.Second

	// dumpAttempts is how often a dump that was interrupted is started over.
	dumpAttempts = 10
)

// conn is a route netlink socket for requests. It stays in the namespace that
// it was made in, and serves one request at a time.
type conn struct {
	file *os.File
	raw  syscall.RawConn
	port uint32 // the address that the kernel answers to

	closed atomic.Bool

	mu  sync.Mutex // held for a request and its answer; guards the following
	seq uint32
	buf []byte
	// unfinished is the dump that was given up before its end, or 0. A socket
	// has one dump at a time, so it is read to its end before the next.
	unfinished uint32
}

// dial makes a socket in the namespace of the calling thread. Strict checking
// makes the kernel honour filters in dump requests, and refuse what it does not
// know instead of ignoring it (Linux 4.20).
func dial() (*conn, error) {
	file, port, err := openSocket(0)
	if err != nil {
		return nil, err
	}
	c := &conn{file: file, port: port, buf: make([]byte, receiveSize)}
	if c.raw, err = file.SyscallConn(); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	err = setOptions(c.raw,
		option{unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1},
		option{unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1},
		option{unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1},
	)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return c, nil
}

// openSocket makes a netlink socket that the Go runtime polls, so that deadlines
// work and Close ends a read.
func openSocket(groups uint32) (*os.File, uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, 0, fmt.Errorf("open netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, 0, fmt.Errorf("bind netlink socket: %w", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, 0, fmt.Errorf("read netlink socket's address: %w", err)
	}
	addr, ok := name.(*unix.SockaddrNetlink)
	if !ok {
		_ = unix.Close(fd)
		return nil, 0, fmt.Errorf("read netlink socket's address: it is a %T", name)
	}
	return os.NewFile(uintptr(fd), "netlink"), addr.Pid, nil
}

type option struct{ level, name, value int }

func setOptions(raw syscall.RawConn, options ...option) error {
	var inner error
	err := raw.Control(func(fd uintptr) {
		for _, o := range options {
			if inner = unix.SetsockoptInt(int(fd), o.level, o.name, o.value); inner != nil {
				inner = fmt.Errorf("set option %d on netlink socket: %w", o.name, inner)
				return
			}
		}
	})
	return errors.Join(err, inner)
}

func (c *conn) Close() error {
	c.closed.Store(true)
	return c.file.Close()
}

// dump sends a dump request and gives each message of the answer to each. When
// the kernel says that the answer is inconsistent (NLM_F_DUMP_INTR) it starts
// over, with begin called before every attempt. An error of each ends it.
func (c *conn) dump(ctx context.Context, r request, begin func(), each func(kind uint16, body []byte) error) error {
	r.flags |= unix.NLM_F_DUMP
	for range dumpAttempts {
		begin()
		intr, err := c.roundTrip(ctx, r, each)
		if err != nil || !intr {
			return err
		}
	}
	return ErrInterrupted
}

// get sends a request that is answered by one message.
func (c *conn) get(ctx context.Context, r request, each func(kind uint16, body []byte) error) error {
	answered := false
	_, err := c.roundTrip(ctx, r, func(kind uint16, body []byte) error {
		answered = true
		return each(kind, body)
	})
	if err == nil && !answered {
		return fmt.Errorf("%w: acknowledged without an answer", errMalformed)
	}
	return err
}

// set sends a request that changes something and waits until the kernel has
// done it.
func (c *conn) set(ctx context.Context, r request) error {
	r.flags |= unix.NLM_F_ACK
	_, err := c.roundTrip(ctx, r, func(uint16, []byte) error { return nil })
	return err
}

func (c *conn) roundTrip(ctx context.Context, r request, each func(uint16, []byte) error) (intr bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return false, err
	}
	deadline := time.Now().Add(answerTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	err = c.file.SetDeadline(deadline)
	defer context.AfterFunc(ctx, func() { _ = c.file.SetDeadline(time.Unix(1, 0)) })()
	if err == nil {
		intr, err = c.exchange(r, each)
	}
	switch {
	case err == nil:
	case c.closed.Load():
		err = os.ErrClosed // which a raw connection does not say by itself
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		err = ctx.Err()
	}
	return intr, err
}

// exchange does the work of roundTrip, with the lock held and a deadline set.
func (c *conn) exchange(r request, each func(uint16, []byte) error) (intr bool, err error) {
	if c.unfinished != 0 {
		_, err := c.receive(c.unfinished, true, func(uint16, []byte) error { return nil })
		var errno unix.Errno
		if err != nil && !errors.As(err, &errno) {
			return false, err
		}
		c.unfinished = 0
	}
	c.seq++
	if c.seq == 0 {
		c.seq = 1 // the kernel's own notifications carry 0
	}
	if err := c.send(r.marshal(c.seq)); err != nil {
		return false, err
	}
	isDump := r.flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP
	if isDump {
		c.unfinished = c.seq
	}
	return c.receive(c.seq, isDump, each)
}

func (c *conn) send(msg []byte) error {
	var inner error
	err := c.raw.Write(func(fd uintptr) bool {
		for {
			inner = unix.Sendto(int(fd), msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
			if !errors.Is(inner, unix.EINTR) {
				return !errors.Is(inner, unix.EAGAIN)
			}
		}
	})
	return errors.Join(err, inner)
}

// receive reads until the request with that number is answered.
func (c *conn) receive(seq uint32, isDump bool, each func(uint16, []byte) error) (intr bool, err error) {
	for {
		n, from, err := c.read()
		if err != nil {
			return intr, err
		}
		if from != 0 {
			continue // only the kernel is listened to; a sandbox may send to us
		}
		done, err := walkMessages(c.buf[:n], func(h header, body []byte) (bool, error) {
			if h.seq != seq || h.port != c.port {
				return false, nil // a late answer to a request that was given up
			}
			intr = intr || h.flags&unix.NLM_F_DUMP_INTR != 0
			switch h.kind {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				c.finish(seq)
				return true, parseStatus(h, body)
			case unix.NLMSG_NOOP:
				return false, nil
			}
			if err := each(h.kind, body); err != nil {
				return true, err
			}
			return !isDump && h.flags&unix.NLM_F_MULTI == 0, nil
		})
		if done || err != nil {
			return intr, err
		}
	}
}

func (c *conn) finish(seq uint32) {
	if c.unfinished == seq {
		c.unfinished = 0
	}
}

// read takes one datagram. The kernel tells by the sender's address who wrote
// it: 0 is the kernel.
func (c *conn) read() (n int, from uint32, err error) {
	var inner error
	err = c.raw.Read(func(fd uintptr) bool {
		n, from, inner = receiveFrom(int(fd), c.buf)
		return !errors.Is(inner, unix.EAGAIN)
	})
	return n, from, errors.Join(err, inner)
}

// receiveFrom is recvmsg(2) for one whole datagram.
func receiveFrom(fd int, buf []byte) (n int, from uint32, err error) {
	for {
		n, _, flags, sender, err := unix.Recvmsg(fd, buf, nil, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, 0, err
		case flags&unix.MSG_TRUNC != 0:
			return 0, 0, fmt.Errorf("%w: longer than %d bytes", errMalformed, len(buf))
		}
		if s, ok := sender.(*unix.SockaddrNetlink); ok {
			return n, s.Pid, nil
		}
		return 0, 0, fmt.Errorf("%w: from a %T", errMalformed, sender)
	}
}

// parseStatus reads how a request ended: an errno, 0 for success, and maybe the
// kernel's own words.
func parseStatus(h header, body []byte) error {
	if len(body) < 4 {
		if h.kind == unix.NLMSG_DONE {
			return nil // old kernels end a dump without a status
		}
		return errMalformed
	}
	code := int32(binary.NativeEndian.Uint32(body))
	if code == 0 {
		return nil
	}
	errno := unix.Errno(-code)
	if h.flags&unix.NLM_F_ACK_TLVS == 0 {
		return errno
	}
	rest := body[4:]
	if h.kind == unix.NLMSG_ERROR {
		// The header of the request follows, and all of it unless NETLINK_CAP_ACK.
		if len(rest) < unix.NLMSG_HDRLEN {
			return errno
		}
		skip := unix.NLMSG_HDRLEN
		if h.flags&unix.NLM_F_CAPPED == 0 {
			skip = align(int(binary.NativeEndian.Uint32(rest)))
		}
		if skip < 0 || skip > len(rest) {
			return errno
		}
		rest = rest[skip:]
	}
	var text string
	_ = eachAttr(rest, func(kind uint16, v []byte) error {
		if kind == unix.NLMSGERR_ATTR_MSG {
			text = cString(v)
		}
		return nil
	})
	if text == "" {
		return errno
	}
	return fmt.Errorf("%w (%s)", errno, printable(text))
}
