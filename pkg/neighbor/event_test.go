// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// Whole messages, as the watcher takes them.
func FuzzEvent(f *testing.F) {
	for _, n := range heard(f) {
		f.Add(n.Kind, n.Body)
	}
	for _, kind := range []uint16{unix.RTM_DELNEIGH, unix.RTM_NEWADDR, unix.RTM_NEWROUTE, unix.NLMSG_DONE} {
		f.Add(kind, make([]byte, 20))
	}
	f.Fuzz(func(t *testing.T, kind uint16, body []byte) {
		w := Watcher{names: make(map[int]string), nameOf: func(int) (string, error) { return "", nil }}
		n := rtnetlink.Notice{Kind: kind, Body: body}
		if ev, ok := w.decode(n); ok && (ev.Kind < LinkChanged || ev.Kind > Overrun) {
			t.Fatalf("%+v", ev)
		}
	})
}

// heard is what the real kernel tells of a pod of a bridge that is set up and taken
// down.
func heard(tb testing.TB) (notices []rtnetlink.Notice) {
	tb.Helper()
	host, pod := nstest.Pair(tb)
	w, err := watchHost(host.NS)
	if err != nil {
		tb.Fatal(err)
	}
	defer w.Close()
	host.IP("link add name br0 type bridge", "link set lxc0 master br0")
	pod.DualStack()
	pod.IP("neigh add 10.0.0.1 lladdr " + hostMAC + " dev eth0 nud permanent")
	host.IP("link set lxc0 nomaster")
	pod.IP("link del eth0")
	for ended := false; !ended; {
		err := w.socket.Receive(func(n rtnetlink.Notice) bool {
			ended = ended || n.Kind == unix.RTM_DELLINK && n.Body[0] == unix.AF_UNSPEC
			notices = append(notices, rtnetlink.Notice{NSID: n.NSID, Kind: n.Kind, Body: bytes.Clone(n.Body)})
			return true
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	return notices
}
