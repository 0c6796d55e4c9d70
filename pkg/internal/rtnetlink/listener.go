// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// messageSize is more than the kernel puts into one notification, but for that of
	// a link with hundreds of names. What is longer counts as lost, and the next has
	// room.
	messageSize = 64 << 10
	// messageAtMost is more than any has: a link's names take 64 KiB
	// (net/core/rtnetlink.c, rtnl_alt_ifname).
	messageAtMost = 1 << 20

	// leastCharge is less than what any message takes of a receive buffer: the
	// kernel charges its own bookkeeping, too (include/linux/skbuff.h,
	// SKB_TRUESIZE).
	leastCharge = 512
)

// Listener is a route netlink socket for notifications. It stays in the
// namespace that it was made in. Receive is for one goroutine; Close and
// HearEntries may be called from any.
//
// The library's subscriptions do not serve: nl.NetlinkSocket.Receive drops
// control messages, and with them the number of the namespace.
type Listener struct {
	file    *os.File
	conn    syscall.RawConn
	gate    *gate // nil: every message wakes the process
	message []byte
	control [64]byte

	queue   int // messages that the receive buffer can hold, or more
	discard int // messages that may be left of what came before a loss

	closed atomic.Bool
}

// Notice is one message of the kernel, valid until the next. The zero Kind means
// that messages were lost.
type Notice struct {
	NSID int32  // the namespace that it comes from, as the socket's knows it, or NSIDNone
	Kind uint16 // RTM_*
	Body []byte // for ParseLink and the like
}

// Listen makes a Listener in the namespace of the calling thread, with a receive
// buffer of that many bytes, which the kernel takes twice. Groups are RTNLGRP_*.
func Listen(buffer int, groups ...uint) (*Listener, error) {
	// The runtime waits for what does not block.
	return listen(unix.SOCK_NONBLOCK, messageSize, buffer, groups, func(*Listener, int) error { return nil })
}

// ListenEverywhere is Listen for all namespaces that have a number in that of the
// calling thread, too, which needs CAP_NET_BROADCAST. So much is heard there that the
// process is woken only while Receive waits.
func ListenEverywhere(buffer int, groups ...uint) (*Listener, error) {
	return listen(0, 2*messageSize, buffer, groups, func(l *Listener, fd int) (err error) {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1); err != nil {
			return fmt.Errorf("listen to all namespaces (needs CAP_NET_BROADCAST): %w", err)
		}
		l.gate, err = newGate(fd)
		return err
	})
}

// listen does what both have in common; prepare does the rest before anything is
// heard.
func listen(kind, message, buffer int, groups []uint, prepare func(l *Listener, fd int) error) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|kind, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	l := &Listener{file: os.NewFile(uintptr(fd), "netlink"), message: make([]byte, message), queue: 2 * buffer / leastCharge}
	if err = prepare(l, fd); err == nil {
		err = subscribe(fd, buffer, groups)
	}
	if err == nil {
		l.conn, err = l.file.SyscallConn()
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// subscribe sets what must stand before the first message, and subscribes last.
func subscribe(fd, buffer int, groups []uint) error {
	// By force goes beyond net.core.rmem_max and needs CAP_NET_ADMIN, without
	// which the kernel's default has to do: the rest is told as a loss.
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer)
	if err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("size the receive buffer: %w", err)
	}
	address := unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	for _, g := range groups {
		address.Groups |= 1 << (g - 1)
	}
	if err := unix.Bind(fd, &address); err != nil {
		return fmt.Errorf("subscribe netlink socket: %w", err)
	}
	// As prepareSocket does, and for its reason.
	if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("connect netlink socket to the kernel: %w", err)
	}
	return nil
}

// Close ends a Receive that waits. Closing again does nothing.
func (l *Listener) Close() {
	l.closed.Store(true)
	if l.gate != nil {
		l.gate.close()
	}
	l.file.Close()
}

// LinkName is the name that a link of the socket's namespace has now; empty where there
// is no such link. Unlike a request it does not wait for the kernel's lock on links
// (net/core/dev_ioctl.c, dev_ifname).
func (l *Listener) LinkName(index int) (string, error) {
	request, err := unix.NewIfreq("")
	if err != nil {
		return "", fmt.Errorf("ask for the name of link %d: %w", index, err)
	}
	request.SetUint32(uint32(index))
	var refused error
	err = l.conn.Control(func(fd uintptr) { refused = unix.IoctlIfreq(int(fd), unix.SIOCGIFNAME, request) })
	switch err = errors.Join(err, refused); {
	case errors.Is(err, unix.ENODEV):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("ask for the name of link %d: %w", index, err)
	}
	return request.Name(), nil
}

// Receive waits for messages and gives them to take, in the kernel's order,
// until there are no more for now or take wants no more.
//
// After a loss the kernel drops everything until the socket has been read empty
// (net/netlink/af_netlink.c, NETLINK_S_CONGESTED), and does not say so again.
// Who would read the tables at the first word of a loss would miss what changes
// between that and the end of the queue. Therefore what is left in the queue is
// thrown away first, and only then the loss is told.
func (l *Listener) Receive(take func(Notice) (more bool)) error {
	var cause error
	drain := func(fd uintptr) (done bool) {
		for more := true; more && cause == nil; done = true {
			d, err := l.next(int(fd))
			switch {
			case errors.Is(err, unix.EAGAIN) && l.discard > 0:
				l.discard = 0
				take(Notice{})
				return true
			case errors.Is(err, unix.EAGAIN):
				return done
			case lost(err):
				again := l.discard > 0
				l.discard = l.queue
				more = !again || take(Notice{}) // a storm without end is told of, too
			case err != nil:
				cause = err
			case l.discard > 1:
				l.discard--
			case l.discard == 1: // the queue has been empty since
				l.discard = 0
				more = take(Notice{})
			case d.sender == nl.PidKernel: // a process may send to the groups, but is not listened to
				more = d.split(take)
			}
		}
		return true
	}
	var err error
	if l.gate != nil {
		err = l.gate.read(l.conn, drain)
	} else {
		err = l.conn.Read(drain)
	}
	if l.closed.Load() {
		return os.ErrClosed // which poll.ErrFileClosing is not
	}
	return errors.Join(cause, err)
}

// lost tells whether an error of the socket is about messages: more of them than
// the buffer holds, or one that the kernel could not make (net/core/rtnetlink.c,
// rtnl_set_sk_err).
func lost(err error) bool {
	return errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EMSGSIZE)
}

// datagram is what one read gave.
type datagram struct {
	sender  uint32
	message []byte
	control []byte
	cut     bool // there was more of it
}

// next reads without waiting.
func (l *Listener) next(fd int) (datagram, error) {
	for {
		n, oobn, flags, from, err := unix.Recvmsg(fd, l.message, l.control[:], unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return datagram{}, err
		}
		d := datagram{message: l.message[:n], control: l.control[:oobn], cut: flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0}
		if d.cut && len(l.message) < messageAtMost {
			l.message = make([]byte, 2*len(l.message))
		}
		if address, ok := from.(*unix.SockaddrNetlink); ok {
			d.sender = address.Pid
		}
		return d, nil
	}
}

// split gives the messages of a datagram to take. What cannot be read counts as
// lost, and so does what was cut off.
func (d datagram) split(take func(Notice) bool) (more bool) {
	messages, err := syscall.ParseNetlinkMessage(d.message)
	nsid, ok := originOf(d.control)
	if err != nil || !ok || d.cut {
		return take(Notice{})
	}
	more = true
	for _, m := range messages {
		more = take(Notice{NSID: nsid, Kind: m.Header.Type, Body: m.Data}) // all of them: they are not kept
	}
	return more
}

// originOf reads the number of the namespace that a message comes from. The
// socket's own has none (net/netlink/af_netlink.c, netlink_cmsg_listen_all_nsid),
// for which kernels without "net: netlink: fix sending unassigned nsid after
// assigned one" (7.1) may send NSIDNone.
func originOf(control []byte) (nsid int32, ok bool) {
	if len(control) == 0 {
		return NSIDNone, true
	}
	list, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return NSIDNone, false
	}
	for _, m := range list {
		if m.Header.Level == unix.SOL_NETLINK && m.Header.Type == unix.NETLINK_LISTEN_ALL_NSID && len(m.Data) >= 4 {
			return int32(binary.NativeEndian.Uint32(m.Data)), true
		}
	}
	return NSIDNone, true
}
