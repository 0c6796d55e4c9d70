// SPDX-License-Identifier: Apache-2.0

package gain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// rush lets all pods of a crowd connect to both addresses at once, each to the second when it has its first byte from the first,
// and returns how long each waited for it, and how long it was until all had both.
func (c *crowd) rush(ctx context.Context, to [2]netip.AddrPort) (took []time.Duration, all time.Duration, err error) {
	sockets := make([][2]*os.File, len(c.pods))
	defer func() {
		for _, pair := range sockets {
			for _, s := range pair {
				if s != nil {
					err = errors.Join(err, s.Close())
				}
			}
		}
	}()
	for i, m := range c.pods {
		for j, address := range to {
			if sockets[i][j], err = socketIn(m, address); err != nil {
				return nil, 0, err
			}
		}
	}
	took = make([]time.Duration, len(c.pods))
	group, ctx := errgroup.WithContext(ctx)
	gate := make(chan struct{})
	var start time.Time
	for i := range c.pods {
		group.Go(func() error {
			<-gate
			for j, address := range to {
				begin := time.Now()
				if err := errors.Join(ctx.Err(), firstByte(sockets[i][j], address)); err != nil {
					return fmt.Errorf("connect from %s to %s: %w", c.pods[i].Path, address, err)
				}
				if j == 0 {
					took[i] = time.Since(begin)
				}
			}
			return nil
		})
	}
	start = time.Now()
	close(gate)
	err = group.Wait()
	return took, time.Since(start), err
}

// socketIn makes a socket that belongs to a pod's namespace, for connections to such an address.
func socketIn(m *member, to netip.AddrPort) (*os.File, error) {
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	var fd int
	err := m.NS.Do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a socket in %s: %w", m.Path, err)
	}
	return os.NewFile(uintptr(fd), m.Path), nil
}

// firstByte connects and reads one byte.
func firstByte(socket *os.File, to netip.AddrPort) error {
	if err := socket.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var address unix.Sockaddr = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	if to.Addr().Is4() {
		address = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	var refused error
	if err := raw.Control(func(fd uintptr) { refused = unix.Connect(int(fd), address) }); err != nil {
		return err
	}
	if refused != nil && !errors.Is(refused, unix.EINPROGRESS) {
		return refused
	}
	err = raw.Write(func(fd uintptr) bool {
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if refused = err; err == nil && code != 0 {
			refused = unix.Errno(code)
		}
		_, err = unix.Getpeername(int(fd))
		return refused != nil || !errors.Is(err, unix.ENOTCONN)
	})
	if err = errors.Join(err, refused); err != nil {
		return err
	}
	_, err = socket.Read(make([]byte, 1))
	return err
}
