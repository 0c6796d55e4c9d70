// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// gate has a socket wake this process while somebody waits for it, and only then.
// Go's runtime waits for all descriptors at once and is woken by each message, also
// by those for which nobody waits yet, which costs more than to read them. A gate
// is a set of one descriptor that is told of once and has then to be asked for again
// (epoll_ctl(2), EPOLLONESHOT); the runtime waits for the set.
type gate struct {
	file *os.File
	conn syscall.RawConn
}

// newGate makes one for a socket that the runtime does not wait for itself.
func newGate(socket int) (*gate, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a set of descriptors: %w", err)
	}
	err = unix.SetNonblock(fd, true) // for the runtime to wait for it
	g := &gate{file: os.NewFile(uintptr(fd), "epoll")}
	if err == nil {
		err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, socket, &unix.EpollEvent{Events: unix.EPOLLONESHOT})
	}
	if err == nil {
		g.conn, err = g.file.SyscallConn()
	}
	if err != nil {
		g.file.Close()
		return nil, fmt.Errorf("make a set of descriptors: %w", err)
	}
	return g, nil
}

func (g *gate) close() { g.file.Close() }

// read is the Read of a [syscall.RawConn] for the socket.
func (g *gate) read(socket syscall.RawConn, drain func(fd uintptr) (done bool)) error {
	var cause error
	err := g.conn.Read(func(set uintptr) (done bool) {
		// What was told is taken, with which nothing more is told.
		var told [1]unix.EpollEvent
		if _, err := unix.EpollWait(int(set), told[:], 0); err != nil && !errors.Is(err, unix.EINTR) {
			cause = fmt.Errorf("read a set of descriptors: %w", err)
			return true
		}
		err := socket.Control(func(fd uintptr) {
			if done = drain(fd); !done {
				// It tells at once if something has come since.
				cause = unix.EpollCtl(int(set), unix.EPOLL_CTL_MOD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT})
			}
		})
		cause = errors.Join(cause, err)
		return done || cause != nil
	})
	return errors.Join(cause, err)
}
