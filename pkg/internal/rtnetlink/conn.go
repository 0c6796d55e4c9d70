// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// answerSize is room for any usual answer.
const answerSize = 8 << 10

// Conn is a route netlink socket for requests. It stays in the namespace that
// it was made in and keeps that alive until Close. Its methods may be called from
// several goroutines at once; they take turns.
//
// Methods that read a list give each member to each as it comes, so that a table of
// any length costs no memory here; neither may call the Conn. When the kernel says
// that the list is inconsistent it is started over: begin is called before every
// attempt, to forget what each was given before. The error is ErrInterrupted when
// that went on and on.
type Conn struct {
	closed atomic.Bool

	request sync.Mutex // held for a request and its answer, guards the following
	fd      int        // -1 once closed
	number  uint32     // of the last request
	out, in []byte
}

// Dial makes a Conn in the namespace of the calling thread.
func Dial() (*Conn, error) {
	fd, err := OpenSocket()
	if err != nil {
		return nil, err
	}
	return New(fd)
}

// OpenSocket makes a socket for New in the namespace of the calling thread.
func OpenSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, fmt.Errorf("open netlink socket: %w", err)
	}
	return fd, nil
}

// New prepares a socket, which is closed if that fails.
func New(fd int) (*Conn, error) {
	if err := prepareSocket(fd); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &Conn{fd: fd, in: make([]byte, answerSize)}, nil
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
func (c *Conn) Close() {
	c.closed.Store(true)
	c.request.Lock()
	defer c.request.Unlock()
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
		c.fd = -1
	}
}
