// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

// A process in the sandbox with NET_ADMIN may send to our sockets. Only what
// the kernel says counts.
func TestMessagesOfASandboxAreNotListenedTo(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	c := dial(t, pod.NS)
	l := listenTo(t, pod, func() (*Listener, error) { return Listen(1<<20, unix.RTNLGRP_NEIGH) })
	forged := entryRequest(unix.RTM_DELNEIGH, 0, Key{mustAddr("10.0.0.1"), linkIndex(t, c, "eth0")}).append(nil, c.number+1)
	send := func(to unix.SockaddrNetlink) (err error) {
		t.Helper()
		to.Family = unix.AF_NETLINK
		if doErr := pod.Do(func() error {
			fd, err2 := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
			if err2 != nil {
				return err2
			}
			defer unix.Close(fd)
			err = unix.Sendto(fd, forged, 0, &to)
			return nil
		}); doErr != nil {
			t.Fatal(doErr)
		}
		return err
	}
	listening := 0
	if err := l.conn.Control(func(fd uintptr) { listening = int(fd) }); err != nil {
		t.Fatal(err)
	}
	for _, fd := range []int{listening, c.fd} {
		name, err := unix.Getsockname(fd)
		address, ok := name.(*unix.SockaddrNetlink)
		if err != nil || !ok || address.Pid == 0 {
			t.Fatal(name, err)
		}
		if err := send(unix.SockaddrNetlink{Pid: address.Pid}); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a message to the socket: %v", err)
		}
	}
	if err := send(unix.SockaddrNetlink{Groups: 1 << (unix.RTNLGRP_NEIGH - 1)}); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a message to the group: %v", err) // refused: by the kernel's own socket, after everybody had it
	}
	if n := routes(t, c); n != 2 {
		t.Errorf("%d routes, want 2", n)
	}
	pod.IP("neigh add 192.0.2.1 lladdr " + otherMAC + " dev eth0 nud permanent")
	until(t, l, "the genuine message", func(n Notice) bool {
		if n.Kind == unix.RTM_DELNEIGH || n.Kind == 0 {
			t.Errorf("forged message %+v", n)
		}
		e, err := ParseEntry(n.Body)
		return err == nil && e.Dst == mustAddr("192.0.2.1")
	})
}

// listenTo listens in a namespace until the test ends.
func listenTo(t *testing.T, ns *nstest.NS, listen func() (*Listener, error)) (l *Listener) {
	t.Helper()
	err := ns.Do(func() (err error) {
		l, err = listen()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// until passes over messages until ok accepts one.
func until(t *testing.T, l *Listener, what string, ok func(Notice) bool) {
	t.Helper()
	timeout := time.AfterFunc(time.Minute, l.Close)
	defer timeout.Stop()
	for found := false; !found; {
		err := l.Receive(func(n Notice) bool {
			found = found || ok(n)
			return !found
		})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// A pod gives a link of its own as many names as the kernel takes, with which what the
// kernel tells of it is as long as it can be. The host misses nothing for it, and the
// pod's own listener one message at most.
func TestNoticeOfALinkWithAllNamesThatCanBe(t *testing.T) {
	host, pod := nstest.DualStackPair(t)
	lines := make([]string, 600)
	for i := range lines {
		lines[i] = fmt.Sprintf("link property add dev eth0 altname a%s%03d", strings.Repeat("x", 120), i)
	}
	if out, err := pod.TryIP(lines...); err == nil || !strings.Contains(out, "too long") {
		t.Fatalf("the kernel has not said that these are too many names: %v, %s", err, out)
	}
	everywhere := listenTo(t, host, func() (*Listener, error) { return ListenEverywhere(8<<20, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH) })
	own := listenTo(t, pod, func() (*Listener, error) { return Listen(8<<20, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH) })
	pod.IP("link set eth0 mtu 1400", "link set eth0 mtu 1500")
	pod.IP("neigh add 192.0.2.1 lladdr " + otherMAC + " dev eth0 nud permanent")
	for name, c := range map[string]struct {
		l         *Listener
		mayBeLost int
	}{"the host": {everywhere, 0}, "the pod": {own, 1}} {
		longest, lost := 0, 0
		until(t, c.l, name, func(n Notice) bool {
			longest = max(longest, len(n.Body))
			if n.Kind == 0 {
				lost++
			}
			return n.Kind == unix.RTM_NEWNEIGH && bytes.Contains(n.Body, []byte{192, 0, 2, 1})
		})
		if longest < messageSize-1<<10 || lost > c.mayBeLost {
			t.Errorf("%s: the longest message had %d bytes, %d were lost", name, longest, lost)
		}
	}
}
