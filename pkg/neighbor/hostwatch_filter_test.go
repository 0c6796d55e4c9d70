// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
)

// told are the lines about entries that were heard until a mark.
func (h *hostWatcher) told(do func(), mark func()) (entries []string) {
	h.t.Helper()
	do()
	mark()
	h.until("the mark", func(line string) bool {
		if strings.Contains(line, "Neighbor") {
			entries = append(entries, line[strings.Index(line, ": ")+2:])
		}
		return strings.Contains(line, "AddrRemoved inet 192.0.2.77")
	})
	return entries
}

// Of entries only those are told that somebody minds; links, addresses and ends of
// namespaces are told as before.
func TestOnlyEntriesThatMatterAreHeard(t *testing.T) {
	host, pod := bridged(t)
	w := watchAll(t, host)
	mark := func() { pod.IP("addr replace 192.0.2.77/32 dev lo", "addr del 192.0.2.77/32 dev lo") }
	four, six, others := mustAddr("10.0.0.9"), mustAddr("fd00::9"), []netip.Addr{mustAddr("10.0.0.8"), mustAddr("fd00::8")}
	change := func() {
		for _, dst := range []string{"10.0.0.9", "10.0.0.7", "10.0.9.9", "fd00::9", "fd00::7", "fd01::9"} {
			pod.IP("neigh add "+dst+" lladdr "+otherMAC+" dev eth0 nud permanent", "neigh del "+dst+" dev eth0")
		}
		if out, err := host.Run("bridge", "fdb", "add", otherMAC, "dev", "lxc0", "master", "static"); err != nil {
			t.Error(out, err)
		}
		if out, err := host.Run("bridge", "fdb", "del", otherMAC, "dev", "lxc0", "master"); err != nil {
			t.Error(out, err)
		}
	}
	of := func(lines []string) (list []string) {
		for _, line := range lines {
			list = append(list, strings.Fields(line)[2])
		}
		return slices.Compact(list)
	}
	everything := of(w.told(change, mark))
	if len(everything) != 6 {
		t.Errorf("without a choice: %v", everything)
	}
	for _, c := range []struct {
		minded []netip.Addr
		want   []string
	}{
		{nil, nil},
		{others, nil},
		{[]netip.Addr{others[0], four, others[1]}, []string{"10.0.0.9"}},
		{[]netip.Addr{others[1], six, others[0]}, []string{"fd00::9"}},
		{[]netip.Addr{six, four}, []string{"10.0.0.9", "fd00::9"}}, // twelve others are left
	} {
		if err := w.w.HearEntries(c.minded); err != nil {
			t.Fatal(err)
		}
		before := w.w.Heard()
		if got := of(w.told(change, mark)); !slices.Equal(got, c.want) {
			t.Errorf("minding %v: %v, want %v", c.minded, got, c.want)
		}
		// Three for an entry that comes and goes, two for the mark, and the kernel may have something of its own to tell. The other entries,
		// of which there are twelve and more, have not even been read.
		if read := int(w.w.Heard() - before); read < 3*len(c.want)+2 || read > 3*len(c.want)+2+8 {
			t.Errorf("minding %v: %d messages were read", c.minded, read)
		}
	}
	many := make([]netip.Addr, MaxEntries+1)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
	}
	if err := w.w.HearEntries(many); err != nil {
		t.Fatal(err)
	}
	if got := of(w.told(change, mark)); !slices.Equal(got, everything) {
		t.Errorf("minding too many: %v, want %v", got, everything)
	}
	if err := w.w.HearEntries(many[:MaxEntries]); err != nil {
		t.Fatal(err)
	}
	if got := w.told(change, mark); len(got) != 0 {
		t.Errorf("minding the most there can be: %v", got)
	}
}

// The most that fits is IPv6; the kernel has room for two such programs at once.
func TestTheLongestFilterIsTaken(t *testing.T) {
	host, pod := nstest.Pair(t)
	w := watchAll(t, host)
	var minded []netip.Addr
	for i := range MaxEntries {
		minded = append(minded, mustAddr(fmt.Sprintf("fd00:1:2:3::%x", i)))
	}
	for range 3 {
		if err := w.w.HearEntries(minded); err != nil {
			t.Fatal(err)
		}
	}
	last := minded[MaxEntries-1].String()
	pod.IP("neigh add fd00:1:2:4::1 lladdr "+otherMAC+" dev eth0 nud permanent", "neigh add "+last+" lladdr "+otherMAC+" dev eth0 nud permanent")
	w.until("the entry", func(line string) bool {
		if strings.Contains(line, "fd00:1:2:4") {
			t.Errorf("heard: %s", line)
		}
		return strings.Contains(line, "NeighborChanged inet6 "+last)
	})
}

// Nothing of what stays chosen is missed while the choice changes.
func TestNothingIsMissedWhileTheChoiceChanges(t *testing.T) {
	const count = 2000
	host, pod := nstest.Pair(t)
	w := watchAll(t, host)
	kept := mustAddr("10.0.0.9")
	lists := [][]netip.Addr{{kept}, {mustAddr("10.0.0.8"), mustAddr("fd00::1"), kept}, {mustAddr("fd00::2"), kept, mustAddr("10.0.0.7")}}
	if err := w.w.HearEntries(lists[0]); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		changes := 0
		for ; ; changes++ {
			select {
			case <-stop:
				stopped <- changes
				return
			default:
			}
			if err := w.w.HearEntries(lists[changes%len(lists)]); err != nil {
				t.Error(err)
			}
		}
	}()
	var lines []string
	for i := range count {
		lines = append(lines, fmt.Sprintf("neigh replace 10.0.0.9 lladdr 02:00:00:00:%02x:%02x dev eth0 nud permanent", i>>8, i&255),
			fmt.Sprintf("neigh replace 10.0.1.%d lladdr %s dev eth0 nud permanent", i%250, otherMAC))
	}
	pod.IP(lines...)
	close(stop)
	if changes := <-stopped; changes < 10 {
		t.Errorf("the choice has changed %d times, which proves little", changes)
	}
	heard := 0
	w.until("the last change", func(line string) bool {
		if strings.Contains(line, "NeighborChanged inet 10.0.0.9") {
			heard++
		}
		return strings.Contains(line, fmt.Sprintf("02:00:00:00:%02x:%02x", (count-1)>>8, (count-1)&255))
	})
	if heard != count {
		t.Errorf("%d of %d changes heard", heard, count)
	}
}
