// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
	"github.com/neighpin/neighpin/pkg/netns"
)

// manyGateways gives a pod that many gateways on eth0, the first of which is
// 10.0.0.10.
func manyGateways(pod *nstest.NS, n int) {
	lines := []string{"addr add 10.0.0.2/24 dev eth0"}
	for i := range n {
		lines = append(lines, fmt.Sprintf("route add 198.18.%d.0/24 via 10.0.0.%d", i, i+10))
	}
	pod.IP(lines...)
}

// narrowTable is a table whose socket has room for one message or two, as the least
// net.core.rmem_default leaves it.
func narrowTable(t *testing.T, pod *nstest.NS) *Table {
	t.Helper()
	fd := -1
	err := pod.Do(func() (err error) {
		if fd, err = rtnetlink.OpenSocket(); err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tableOf(t, pod, fd)
}

// tableOf is a table with a socket that the test has made.
func tableOf(t *testing.T, pod *nstest.NS, fd int) *Table {
	t.Helper()
	c, err := rtnetlink.New(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &Table{path: pod.Path(), conn: c, ours: make(map[key]HardwareAddr)}
}

// The answers to requests of one exchange have no room in the socket's queue.
func TestAnswersThatOverrunTheQueue(t *testing.T) {
	const gateways = 40
	_, pod := nstest.Pair(t)
	manyGateways(pod, gateways)
	for i := range gateways {
		if i%3 == 0 {
			pod.IP(fmt.Sprintf("neigh add 10.0.0.%d lladdr %s dev eth0 nud stale", i+10, otherMAC))
		}
	}
	tb := narrowTable(t, pod)
	for range 2 {
		res := resolve(t, tb)
		if len(res.Neighbors) != gateways {
			t.Fatalf("%d gateways, want %d", len(res.Neighbors), gateways)
		}
		pin(t, tb, res.Neighbors)
		if diffs, err := tb.Verify(t.Context(), res.Neighbors); err != nil || len(diffs) > 0 {
			t.Errorf("%+v, %v", diffs, err)
		}
	}
}

// A process in the sandbox fills the queue of a socket that is not connected to the
// kernel yet. The kernel's answers have no room, and what is there is nobody's.
func TestMessagesFromBeforeTheConnection(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	tb := tableOf(t, pod, stuffed(t, pod.NS))
	res := resolve(t, tb)
	expect(t, res, gw4+"peer NONE", gw6+"peer NONE")
	pin(t, tb, res.Neighbors)
}

// stuffed opens a socket that somebody in the namespace has sent all that it can
// hold.
func stuffed(t *testing.T, ns *netns.NS) (fd int) {
	t.Helper()
	sender := -1
	err := ns.Do(func() (err error) {
		if fd, err = rtnetlink.OpenSocket(); err == nil {
			sender, err = rtnetlink.OpenSocket()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sender)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	for size := 64 << 10; size > 0; {
		err := unix.Sendto(sender, make([]byte, size), 0, at)
		if errors.Is(err, unix.EAGAIN) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return fd
}
