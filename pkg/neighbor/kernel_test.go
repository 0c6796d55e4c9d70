// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/netns"
)

const hostMAC, hostMAC2, otherMAC = nstest.HostMAC, nstest.HostMAC2, nstest.OtherMAC

func openTable(t testing.TB, ns *netns.NS) *Table {
	t.Helper()
	tb, err := Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tb.Close(); err != nil {
			t.Error(err)
		}
	})
	return tb
}

func resolve(t testing.TB, tb *Table, owned ...Neighbor) Resolution {
	t.Helper()
	res, err := tb.Resolve(t.Context(), Query{Known: owned})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func pin(t testing.TB, tb *Table, neighbors []Neighbor) {
	t.Helper()
	if err := tb.Pin(t.Context(), neighbors); err != nil {
		t.Fatal(err)
	}
}

// lines puts a resolution into sorted lines: what is known as "DST DEV LLADDR
// FAMILY SOURCE STATE", what is not as "DST DEV - REASON".
func lines(res Resolution) []string {
	var list []string
	for _, n := range res.Neighbors {
		list = append(list, fmt.Sprintf("%s %s %s %s %s %s", n.Dst, n.Dev, n.LLAddr, n.Family, n.Source, strings.Join(n.State, ",")))
	}
	for _, s := range res.Skipped {
		dst := "-"
		if s.Dst.IsValid() {
			dst = s.Dst.String()
		}
		list = append(list, fmt.Sprintf("%s %s - %s", dst, s.Dev, s.Reason))
	}
	if res.HandedOver {
		list = append(list, "handed over")
	}
	slices.Sort(list)
	return list
}

func expect(t testing.TB, res Resolution, want ...string) {
	t.Helper()
	want = slices.Sorted(slices.Values(want)) // the caller's may be shared
	if diff := cmp.Diff(want, lines(res)); diff != "" {
		t.Errorf("resolution (-want +got):\n%s\nskipped: %v", diff, res.Skipped)
	}
}

// entries lists the entries of a namespace's tables as `ip neigh` prints them,
// sorted. What the kernel learns by itself about the other end's link-local
// address comes and goes, and is left out.
func entries(ns *nstest.NS) []string {
	var list []string
	for line := range strings.Lines(ns.Output("neigh", "show")) {
		line = strings.Join(strings.Fields(line), " ")
		if strings.HasPrefix(line, "fe80:") && !strings.Contains(line, "PERMANENT") {
			continue
		}
		list = append(list, line)
	}
	slices.Sort(list)
	return list
}

func expectEntries(t testing.TB, ns *nstest.NS, want ...string) {
	t.Helper()
	want = slices.Sorted(slices.Values(want))
	if diff := cmp.Diff(want, entries(ns)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

func fields(line string) []string { return strings.Fields(line) }

// joined puts one blank between words.
func joined(line string) string { return strings.Join(fields(line), " ") }
