// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

// Of entries that are written in one go some are refused, wherever they stand: each
// has its own error, and the others stand.
func TestOneGoInWhichSomeAreRefused(t *testing.T) {
	_, pod := pair(t)
	pod.Veth("eth1", nstest.New(t), "lxc1")
	dualStack(pod)
	pod.Sysctl("net/ipv6/conf/eth1/disable_ipv6", "1")
	pod.IP("neigh add 10.0.0.2 lladdr "+otherMAC+" dev eth1 nud permanent", "neigh add 10.0.0.3 lladdr "+otherMAC+" dev eth1 nud stale",
		"neigh add 10.0.0.4 lladdr "+hostMAC+" dev eth1 nud permanent")
	list := []Neighbor{
		{Dst: mustAddr("fd00::1"), Dev: "eth1"}, // takes no part in IPv6
		{Dst: mustAddr("10.0.0.1"), Dev: "eth1"},
		{Dst: mustAddr("10.0.0.2"), Dev: "eth1"}, // another owner's
		{Dst: mustAddr("10.0.0.3"), Dev: "eth1"}, // learned
		{Dst: mustAddr("fd00::2"), Dev: "eth1"},
		{Dst: mustAddr("10.0.0.4"), Dev: "eth1"}, // as wanted
		{Dst: mustAddr("10.0.0.5"), Dev: "eth9"},
		{Dst: mustAddr("10.0.0.6"), Dev: "eth1"},
		{Dst: mustAddr("10.0.0.2"), Dev: "eth1", Source: SourceExisting},
		{Dst: mustAddr("fd00::3"), Dev: "eth1"}, // and the last of them
	}
	for i := range list {
		list[i].LLAddr = hostMAC
	}
	tb := openTable(t, pod.NS)
	want := []error{unix.EINVAL, nil, ErrForeign, nil, unix.EINVAL, nil, unix.ENODEV, nil, nil, unix.EINVAL}
	for range 2 {
		refused := refusals(t, tb.Pin(t.Context(), list))
		for i, n := range list {
			if err := refused[n.Dst]; n.Source == "" && !errors.Is(err, want[i]) {
				t.Errorf("%s on %s: %v, want %v", n.Dst, n.Dev, err, want[i])
			}
		}
		if len(refused) != 5 {
			t.Errorf("%d are refused: %v", len(refused), refused)
		}
		expectEntries(t, pod, "10.0.0.1 dev eth1 lladdr "+hostMAC+" PERMANENT proto 177", "10.0.0.2 dev eth1 lladdr "+otherMAC+" PERMANENT",
			"10.0.0.3 dev eth1 lladdr "+hostMAC+" PERMANENT proto 177", "10.0.0.4 dev eth1 lladdr "+hostMAC+" PERMANENT",
			"10.0.0.6 dev eth1 lladdr "+hostMAC+" PERMANENT proto 177")
	}
}

// refusals takes apart what Pin returns.
func refusals(t *testing.T, err error) map[netip.Addr]error {
	t.Helper()
	list, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("no list of errors: %v", err)
	}
	refused := make(map[netip.Addr]error)
	for _, err := range list.Unwrap() {
		var one *EntryError
		if !errors.As(err, &one) || refused[one.Dst] != nil {
			t.Fatalf("%v", err)
		}
		refused[one.Dst] = one
	}
	return refused
}

// Answers to requests whose caller went away, and parts of dumps that nobody reads
// to their end, are not taken for answers to what is asked next.
func TestAnswersToEarlierRequests(t *testing.T) {
	_, pod := pair(t)
	dualStack(pod)
	flood(pod, 2000, 2000)
	pod.IP("neigh add 10.0.0.1 lladdr " + otherMAC + " dev eth0 nud permanent")
	tb := openTable(t, pod.NS)
	index, stop := linkIndex(t, tb, "eth0"), errors.New("enough")
	keys := []key{{mustAddr("10.0.0.1"), index}, {mustAddr("10.0.0.3"), index}, {mustAddr("10.0.0.1"), 1 << 20}}
	want := []string{otherMAC, "", "no such device"}
	for _, number := range []uint32{tb.conn.number, 1<<32 - 4, 1<<32 - 2} {
		tb.conn.number = number
		err := tb.conn.dump(t.Context(), routesRequest(unix.AF_UNSPEC), func() {}, func([]byte) error { return stop })
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
		if _, err := tb.conn.send(t.Context(), linkRequest(1, nsidNone), linkRequest(index, nsidNone), readRequest(keys[1].dst, index)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			entries := unanswered(len(keys))
			if err := tb.readEntries(t.Context(), keys, entries); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				if e.err != nil {
					got = append(got, errors.Unwrap(e.err).Error())
					continue
				}
				got = append(got, string(e.lladdr))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("after number %d (-want +got):\n%s", number, diff)
			}
		}
	}
	expectGateways(t, tb, 2002)
}

func expectGateways(t *testing.T, tb *Table, want int) {
	t.Helper()
	list, dropped, err := tb.gateways(t.Context(), 2*want)
	if err != nil || dropped || len(list) != want {
		t.Errorf("%d gateways, more of them: %v, %v; want %d", len(list), dropped, err, want)
	}
}

// A long dump ends with its caller's context, and with the Table.
func TestLongDumpThatNobodyWaitsFor(t *testing.T) {
	_, pod := pair(t)
	dualStack(pod)
	flood(pod, 2000, 10)
	for name, c := range map[string]struct {
		end  func(tb *Table, cancel func())
		want error
	}{
		"the caller's": {func(_ *Table, cancel func()) { cancel() }, context.Canceled},
		"Close": {func(tb *Table, _ func()) {
			go tb.Close()
			nstest.Eventually(t, "Close to begin", tb.conn.closed.Load)
		}, os.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			tb := openTable(t, pod.NS)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			routes := 0
			err := tb.conn.dump(ctx, routesRequest(unix.AF_UNSPEC), func() {}, func([]byte) error {
				if routes++; routes == 1 {
					c.end(tb, cancel)
				}
				return nil
			})
			if !errors.Is(err, c.want) || routes >= 2000 {
				t.Errorf("%v after %d routes", err, routes)
			}
		})
	}
}

// The kernel lists multicast routes, too, and other families' where there are some.
func TestRoutesOfOtherFamilies(t *testing.T) {
	_, pod := pair(t)
	dualStack(pod)
	fd := multicastRoute(t, pod)
	defer unix.Close(fd)
	tb, others := openTable(t, pod.NS), 0
	err := tb.conn.dump(t.Context(), routesRequest(unix.AF_UNSPEC), func() { others = 0 }, func(body []byte) error {
		if body[0] != unix.AF_INET && body[0] != unix.AF_INET6 {
			others++
		}
		return nil
	})
	if err != nil || others != 1 {
		t.Fatalf("%d routes of other families, %v", others, err)
	}
	expect(t, resolve(t, tb), gw4+"peer NONE", gw6+"peer NONE")

	// A job of CAN's has a shorter fixed part (struct rtcanmsg) and attributes that
	// mean something else (include/uapi/linux/can/gw.h: CGW_SRC_IF, CGW_DST_IF).
	f := newFound(8)
	job := append([]byte{unix.AF_CAN, 1, 0, 0}, append(serialized32(9, 2), serialized32(10, 3)...)...)
	if err := f.take(job); err != nil || len(f.gateways.members) > 0 {
		t.Errorf("%+v, %v", f.gateways, err)
	}
	if err := f.take(nil); !errors.Is(err, errMalformed) {
		t.Errorf("nothing: %v", err)
	}
}

// multicastRoute routes a group's packets of one source, for as long as the
// descriptor that it returns is open (include/uapi/linux/mroute.h).
func multicastRoute(t *testing.T, ns *nstest.NS) (fd int) {
	t.Helper()
	const mrtInit, mrtAddVif, mrtAddMFC, vifUseIfindex = 200, 202, 204, 8
	index := linkIndex(t, openTable(t, ns.NS), "eth0")
	vif := make([]byte, 16) // struct vifctl: number (2), flags, threshold, rate (4), link (4), remote (4)
	vif[2], vif[3], vif[8] = vifUseIfindex, 1, byte(index)
	mfc := make([]byte, 60) // struct mfcctl: source (4), group (4), parent (2), thresholds (32), counts
	copy(mfc, []byte{10, 0, 0, 9, 239, 1, 1, 1})
	mfc[10] = 1
	err := ns.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_IGMP); err != nil {
			return err
		}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, mrtInit, 1)
		for _, option := range []struct {
			name  int
			value []byte
		}{{mrtAddVif, vif}, {mrtAddMFC, mfc}} {
			if err == nil {
				err = unix.SetsockoptString(fd, unix.IPPROTO_IP, option.name, string(option.value))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(fmt.Errorf("make multicast route: %w", err))
	}
	return fd
}
