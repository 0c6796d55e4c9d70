// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

// Of entries that are written in one go some are refused, wherever they stand: each
// has its own error, and the others stand.
func TestOneGoInWhichSomeAreRefused(t *testing.T) {
	_, pod := nstest.Pair(t)
	pod.Veth("eth1", nstest.New(t), "lxc1")
	pod.DualStack()
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

// The kernel lists multicast routes, too, and other families' where there are some.
func TestRoutesOfOtherFamilies(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	fd := multicastRoute(t, pod)
	defer unix.Close(fd)
	if pod.Output("mroute", "show", "table", "all") == "" {
		t.Fatal("the kernel lists no multicast route")
	}
	expect(t, resolve(t, openTable(t, pod.NS)), gw4+"peer NONE", gw6+"peer NONE")
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
