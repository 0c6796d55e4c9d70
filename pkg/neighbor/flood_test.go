// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"encoding/binary"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// A pod with NET_ADMIN fills its table with routes by way of ten thousand
// gateways: the work is bounded, the default gateways are not lost, and the
// limit is told.
func TestTenThousandGateways(t *testing.T) {
	const routes, gateways, limit = 20_000, 10_000, 16
	_, pod := nstest.DualStackPair(t)
	pod.Flood(routes, gateways)
	tb := openTable(t, pod.NS)
	res, err := tb.Resolve(t.Context(), Query{Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Neighbors) != limit || len(res.Skipped) != 1 || res.Skipped[0].Reason != ReasonLimitReached {
		t.Errorf("%d known, skipped %+v", len(res.Neighbors), res.Skipped)
	}
	if all := strings.Join(lines(res), "\n"); !strings.Contains(all, gw4) || !strings.Contains(all, gw6) {
		t.Errorf("the default gateways are lost among the others:\n%s", all)
	}
	pin(t, tb, res.Neighbors)
	if n := strings.Count(pod.Output("neigh", "show", "nud", "permanent"), "PERMANENT"); n != limit {
		t.Errorf("%d entries, want %d", n, limit)
	}
}

// A million routes by way of a million gateways, as messages of the kernel's:
// what is held of them does not grow with their number.
func TestMillionRoutesCostNoMemory(t *testing.T) {
	const routes, limit, room = 1_000_000, 16, 64 << 10
	msg := nl.NewRtMsg()
	msg.Family, msg.Dst_len, msg.Table = unix.AF_INET, 32, unix.RT_TABLE_MAIN
	head := msg.Serialize()
	dst, via := nl.NewRtAttr(unix.RTA_DST, make([]byte, 4)).Serialize(), nl.NewRtAttr(unix.RTA_GATEWAY, make([]byte, 4)).Serialize()
	body := slices.Concat(head, dst, via, nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(2)).Serialize())
	gateway := body[len(head)+len(dst)+4:][:4]
	live := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, set := live(), newFound(limit)
	for i := range uint32(routes) {
		binary.BigEndian.PutUint32(gateway, 10<<24|i)
		r, err := rtnetlink.ParseRoute(body)
		if err != nil {
			t.Fatal(err)
		}
		set.add(r)
	}
	grown := int64(live()) - int64(before)
	if t.Logf("%d bytes more are in use after %d routes", grown, routes); grown > room {
		t.Errorf("%d bytes are held, want at most %d", grown, room)
	}
	if len(set.gateways.members) != limit || !set.gateways.dropped {
		t.Errorf("%d gateways, more of them: %v; want %d and more", len(set.gateways.members), set.gateways.dropped, limit)
	}
}

// A pod moves its addresses between its links while they are read: a gateway's
// address is that of the link's other end all the same, whoever has which address.
func TestAddressesThatSwapLinksWhileTheyAreRead(t *testing.T) {
	_, pod := twoLinks(t)
	tb := openTable(t, pod.NS)
	truth := map[string]HardwareAddr{"eth0": hostMAC, "eth1": hostMAC2}
	there := []string{
		"addr flush dev eth0", "addr flush dev eth1", "addr add 10.0.0.2/24 dev eth1", "addr add 10.1.0.2/24 dev eth0",
		"route replace default via 10.0.0.1 dev eth1", "route replace 192.0.2.0/24 via 10.1.0.1 dev eth0",
		"link set eth0 address 02:00:00:00:0a:01", "link set eth1 address 02:00:00:00:0a:00",
	}
	back := []string{
		"addr flush dev eth0", "addr flush dev eth1", "addr add 10.0.0.2/24 dev eth0", "addr add 10.1.0.2/24 dev eth1",
		"route replace default via 10.0.0.1 dev eth0", "route replace 192.0.2.0/24 via 10.1.0.1 dev eth1",
		"link set eth0 address 02:00:00:00:0a:00", "link set eth1 address 02:00:00:00:0a:01",
	}
	seen := make(map[string]int)
	during(t, 50, []step{stepIn(t, pod, there...), stepIn(t, pod, back...)}, func() {
		for _, running := range []bool{false, true} {
			res, err := tb.Resolve(t.Context(), Query{Running: running})
			if err != nil {
				continue // it says that it is no answer
			}
			for _, n := range res.Neighbors {
				seen[n.Dst.String()+" "+n.Dev]++
				if n.LLAddr != truth[n.Dev] {
					t.Errorf("%+v", n)
				}
			}
			for _, a := range res.Unknown {
				t.Errorf("a question: %+v", a)
			}
		}
	})
	if t.Log(seen); len(seen) < 4 {
		t.Errorf("seen %v, want each gateway on each link", seen)
	}
}
