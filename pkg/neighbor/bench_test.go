// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"fmt"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/neighpin/neighpin/internal/nstest"
)

// BenchmarkPin measures, in turns within one run, what a pod costs against the
// least that it could: two entries whose content is known, written by
// vishvananda/netlink. The work is to find two gateways and their addresses, and
// to pin them; open adds the socket to it. "x-floor" is the quotient of the
// medians.
func BenchmarkPin(b *testing.B) {
	for _, c := range []struct {
		name string
		make func(testing.TB) (host, pod *nstest.NS)
		open bool
	}{
		{"peer", nstest.DualStackPair, false}, {"peer/open", nstest.DualStackPair, true}, {"port/open", bridgedWithGateway, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			_, pod := c.make(b)
			handle, err := netlink.NewHandleAt(netns.NsHandle(pod.FD()))
			if err != nil {
				b.Fatal(err)
			}
			defer handle.Close()
			tb := openTable(b, pod.NS)
			want := resolve(b, tb).Neighbors
			index := linkIndex(b, tb, "eth0")
			var ours, floor []time.Duration
			for b.Loop() {
				start := time.Now()
				for _, n := range want {
					mac, _ := net.ParseMAC(n.LLAddr.String())
					if err := handle.NeighSet(&netlink.Neigh{LinkIndex: index, IP: n.Dst.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT}); err != nil {
						b.Fatal(err)
					}
				}
				floor = append(floor, time.Since(start))
				clearEntries(b, tb, want, index)

				start = time.Now()
				used := tb
				if c.open {
					if used, err = Open(pod.NS); err != nil {
						b.Fatal(err)
					}
				}
				pin(b, used, resolve(b, used).Neighbors)
				ours = append(ours, time.Since(start))
				if c.open {
					_ = used.Close()
				}
				clearEntries(b, tb, want, index)
			}
			b.ReportMetric(float64(median(ours))/float64(median(floor)), "x-floor")
			b.ReportMetric(float64(median(ours).Microseconds()), "µs/pod")
			b.ReportMetric(float64(median(floor).Microseconds()), "µs/floor")
		})
	}
}

func bridgedWithGateway(tb testing.TB) (host, pod *nstest.NS) {
	host, pod = bridged(tb)
	host.IP("addr add 10.0.0.1/24 dev cni0", "addr add fd00::1/64 dev cni0 nodad")
	return host, pod
}

func clearEntries(tb testing.TB, t *Table, list []Neighbor, index int) {
	tb.Helper()
	for _, n := range list {
		if err := t.conn.RemoveEntry(tb.Context(), key{Dst: n.Dst, Index: index}); err != nil {
			tb.Fatal(err)
		}
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// A sandbox may bring any number of routes. What Resolve keeps in memory does
// not grow with them.
func TestManyRoutesTakeTimeAndNoMemory(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	const count, gateways = 100_000, 2_000
	fillRoutes(pod, count, gateways)
	tb := openTable(t, pod.NS)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	res, err := tb.Resolve(t.Context(), Query{})
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if err != nil || len(res.Neighbors) != DefaultLimit {
		t.Fatalf("%d neighbors, %v", len(res.Neighbors), err)
	}
	expect(t, Resolution{Skipped: res.Skipped}, "-  - LimitReached")
	runtime.GC()
	var kept runtime.MemStats
	runtime.ReadMemStats(&kept)
	if grown := int64(kept.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("%d bytes more are in use", grown)
	}
	t.Logf("%d routes over %d gateways: %v, %d KiB allocated in passing", count, gateways, took, (after.TotalAlloc-before.TotalAlloc)>>10)
}

// fillRoutes adds routes by gateways in turn. The kernel looks through all
// gateways of a link when it gets a new one, so that they are fewer.
func fillRoutes(pod *nstest.NS, count, gateways int) {
	lines := make([]string, count)
	for i := range lines {
		gw := i%gateways + 1
		lines[i] = fmt.Sprintf("route add 20.%d.%d.%d via 30.0.%d.%d dev eth0 onlink table 100", i>>16, i>>8&255, i&255, gw>>8, gw&255)
	}
	pod.IP(lines...)
}
