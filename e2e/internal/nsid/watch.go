// SPDX-License-Identifier: Apache-2.0

package nsid

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NeighborEvent is a neighbor that was added, changed or removed in a namespace.
type NeighborEvent struct {
	Time      time.Time
	Namespace int
	Removed   bool
	Permanent bool
	IP        netip.Addr
	MAC       string
}

// Watcher hears of the neighbors of every namespace that has an id. It may be used concurrently.
type Watcher struct {
	file    *os.File
	closing atomic.Bool
	done    chan struct{}

	mu     sync.Mutex
	events []NeighborEvent
	err    error
}

// NewWatcher listens from now on.
func NewWatcher() (*Watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), "netlink socket")
	for _, set := range []func() error{
		func() error { return unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1) },
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) },
		func() error {
			return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.RTNLGRP_NEIGH - 1)})
		},
	} {
		if err := set(); err != nil {
			file.Close()
			return nil, fmt.Errorf("listen to the neighbors of all namespaces: %w", err)
		}
	}
	w := &Watcher{file: file, done: make(chan struct{})}
	go w.receive()
	return w, nil
}

// Close ends the watch. It returns an error if events were lost, since then silence proves nothing.
func (w *Watcher) Close() error {
	w.closing.Store(true)
	err := w.file.Close()
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(err, w.err)
}

// Anywhere stands for every namespace.
const Anywhere = -1

// Permanent returns the permanent neighbors that were added in the namespace from a time on. The time matters: the
// kernel gives an id to another namespace when its owner is gone.
func (w *Watcher) Permanent(namespace int, since time.Time) []NeighborEvent {
	w.mu.Lock()
	defer w.mu.Unlock()
	var selected []NeighborEvent
	for _, event := range w.events {
		if (namespace == Anywhere || event.Namespace == namespace) && !event.Time.Before(since) && event.Permanent && !event.Removed {
			selected = append(selected, event)
		}
	}
	return selected
}

// receive is the watcher's goroutine; closing the file ends it.
func (w *Watcher) receive() {
	defer close(w.done)
	raw, err := w.file.SyscallConn()
	if err != nil {
		w.fail(err)
		return
	}
	buffer, control := make([]byte, 1<<16), make([]byte, 128)
	for {
		var n, controls int
		var received error
		err := raw.Read(func(fd uintptr) bool {
			n, controls, _, _, received = unix.Recvmsg(int(fd), buffer, control, 0)
			return !errors.Is(received, unix.EAGAIN) && !errors.Is(received, unix.EINTR)
		})
		if w.closing.Load() {
			return
		}
		if err := errors.Join(err, received); err != nil {
			w.fail(err)
			return
		}
		namespace, ok := sender(control[:controls])
		if !ok {
			continue // this namespace's own
		}
		if err := w.record(namespace, buffer[:n]); err != nil {
			w.fail(err)
			return
		}
	}
}

func (w *Watcher) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = fmt.Errorf("watch neighbors: %w", err)
}

// sender finds the id of the namespace that a message is from.
func sender(control []byte) (int, bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, false
	}
	for _, message := range messages {
		if message.Header.Level == unix.SOL_NETLINK && message.Header.Type == unix.NETLINK_LISTEN_ALL_NSID && len(message.Data) >= 4 {
			return int(int32(nativeUint32(message.Data))), true
		}
	}
	return 0, false
}

func (w *Watcher) record(namespace int, data []byte) error {
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return fmt.Errorf("parse messages: %w", err)
	}
	for _, message := range messages {
		if message.Header.Type != unix.RTM_NEWNEIGH && message.Header.Type != unix.RTM_DELNEIGH {
			continue
		}
		neighbor, err := netlink.NeighDeserialize(message.Data)
		if err != nil {
			return fmt.Errorf("parse a neighbor: %w", err)
		}
		ip, _ := netip.AddrFromSlice(neighbor.IP)
		w.mu.Lock()
		w.events = append(w.events, NeighborEvent{
			Time: time.Now(), Namespace: namespace, Removed: message.Header.Type == unix.RTM_DELNEIGH,
			Permanent: neighbor.State == unix.NUD_PERMANENT, IP: ip.Unmap(), MAC: neighbor.HardwareAddr.String(),
		})
		w.mu.Unlock()
	}
	return nil
}
