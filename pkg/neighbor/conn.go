// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// answerTimeout ends a request whose context has no earlier end. The kernel
	// works on a request while it is being sent, so that waiting for the answer
	// is the exception: the answer was lost for want of memory.
	answerTimeout = 10 * time.Second

	// dumpAttempts is how often a dump that was interrupted is started over.
	dumpAttempts = 10
)

// conn is a route netlink socket for requests. It stays in the namespace that
// it was made in, and serves one request at a time.
type conn struct {
	socket  *nl.NetlinkSocket
	sockets map[int]*nl.SocketHandle // the same, as requests want it

	request sync.Mutex // held for a request and its answer

	// The library uses the bare number of the descriptor for socket options, and
	// after Close that may be somebody else's.
	option sync.Mutex // guards the following, held while an option is set
	closed bool
	extAck bool // what the option NETLINK_EXT_ACK is; a new socket has it off
}

// dial makes a socket in the namespace of the calling thread. Strict checking
// makes the kernel honour filters in dump requests, and refuse what it does not
// know instead of ignoring it (Linux 4.20).
func dial() (*conn, error) {
	s, err := openSocket()
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1); err != nil {
		s.Close()
		return nil, fmt.Errorf("set strict checking on netlink socket: %w", err)
	}
	return &conn{socket: s, sockets: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}, nil
}

// openSocket makes a socket that listens to the kernel alone. Being connected to
// it, a socket takes no message from a process in the sandbox
// (net/netlink/af_netlink.c, netlink_getsockbyportid), any of which would end a
// request with an error (nl.NetlinkRequest.ExecuteIter).
func openSocket() (*nl.NetlinkSocket, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	if err := unix.Connect(s.GetFd(), &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		s.Close()
		return nil, fmt.Errorf("connect netlink socket to the kernel: %w", err)
	}
	return s, nil
}

func (c *conn) Close() {
	c.option.Lock()
	defer c.option.Unlock()
	c.closed = true
	c.socket.Close()
}

// newRequest makes a request of the family's fixed part and attributes.
func newRequest(kind, flags int, data ...nl.NetlinkRequestData) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(kind, flags)
	r.Data = data
	return r
}

func attr32(kind int, value uint32) *nl.RtAttr { return nl.NewRtAttr(kind, nl.Uint32Attr(value)) }

// dump sends a dump request and gives the body of each message of the answer to
// each. When the kernel says that the answer is inconsistent it starts over,
// with begin called before every attempt. An error of each ends it.
func (c *conn) dump(ctx context.Context, r *nl.NetlinkRequest, begin func(), each func(body []byte) error) error {
	r.Flags |= unix.NLM_F_DUMP
	return uninterrupted(func() (inner error) {
		begin()
		err := c.execute(ctx, r, func(body []byte) bool {
			if inner = ctx.Err(); inner == nil {
				inner = each(body)
			}
			return inner == nil
		})
		if inner != nil {
			return inner
		}
		return err
	})
}

// uninterrupted tries a dump until it is whole. EBUSY is another dump's rest in
// the same socket, of which each attempt takes a part away.
func uninterrupted(try func() error) error {
	for range dumpAttempts {
		if err := try(); !errors.Is(err, nl.ErrDumpInterrupted) && !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return ErrInterrupted
}

// get sends a request that is answered by one message, and reads that.
func get[T any](ctx context.Context, c *conn, r *nl.NetlinkRequest, parse func(body []byte) (T, error)) (v T, err error) {
	var answer []byte
	if err := c.execute(ctx, r, func(body []byte) bool { answer = body; return true }); err != nil {
		return v, err
	}
	return parse(answer)
}

// set sends a request that changes something and waits until the kernel has
// done it.
func (c *conn) set(ctx context.Context, r *nl.NetlinkRequest) error {
	r.Flags |= unix.NLM_F_ACK
	return c.execute(ctx, r, func([]byte) bool { return true })
}

// execute ends with ctx between two messages, and with ctx's deadline while it
// waits for one.
func (c *conn) execute(ctx context.Context, r *nl.NetlinkRequest, each func(body []byte) bool) error {
	c.request.Lock()
	defer c.request.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	deadline := time.Now().Add(answerTimeout)
	end, ends := ctx.Deadline()
	if ends = ends && end.Before(deadline); ends {
		deadline = end
	}
	if err := c.prepare(deadline, r.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP); err != nil {
		return err
	}
	r.Sockets = c.sockets
	err := r.ExecuteIter(unix.NETLINK_ROUTE, 0, each)
	switch {
	case err == nil:
		return nil
	case c.isClosed():
		return os.ErrClosed // which the library does not say
	case errors.Is(err, unix.EAGAIN) && ends:
		return context.DeadlineExceeded
	case errors.Is(err, unix.EAGAIN):
		return os.ErrDeadlineExceeded
	}
	return err
}

// prepare sets the socket's options for one request. The kernel's own words
// about an error come with everything but a dump: those that follow NLMSG_DONE
// are taken for a message header by nl.NetlinkRequest.ExecuteIter, which panics.
func (c *conn) prepare(deadline time.Time, isDump bool) error {
	c.option.Lock()
	defer c.option.Unlock()
	if c.closed {
		return os.ErrClosed
	}
	wait := unix.NsecToTimeval(max(1, time.Until(deadline)).Nanoseconds()) // zero would be for ever
	if err := errors.Join(c.socket.SetSendTimeout(&wait), c.socket.SetReceiveTimeout(&wait)); err != nil || c.extAck == !isDump {
		return err
	}
	if err := c.socket.SetExtAck(!isDump); err != nil {
		return err
	}
	c.extAck = !isDump
	return nil
}

func (c *conn) isClosed() bool {
	c.option.Lock()
	defer c.option.Unlock()
	return c.closed
}
