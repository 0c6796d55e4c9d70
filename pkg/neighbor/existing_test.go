// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

func TestEntriesOfOthersAreListedAndNeverWritten(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []string // made by somebody else
		want    []string
	}{
		{"one that agrees, as AWS's", []string{"neigh add 10.0.0.1 lladdr " + hostMAC + " dev eth0 nud permanent"},
			[]string{gw4 + "existing PERMANENT", gw6 + "peer NONE"}},
		{"one that differs", []string{"neigh add 10.0.0.1 lladdr " + otherMAC + " dev eth0 nud permanent"},
			[]string{"10.0.0.1 eth0 - Contested", gw6 + "peer NONE"}},
		{"one that differs and wears our mark", []string{"neigh add 10.0.0.1 lladdr " + otherMAC + " dev eth0 nud permanent protocol 177"},
			[]string{"10.0.0.1 eth0 - Contested", gw6 + "peer NONE"}},
		{"one of zeros", []string{"neigh add 10.0.0.1 lladdr 00:00:00:00:00:00 dev eth0 nud permanent"},
			[]string{"10.0.0.1 eth0 - InvalidEntry", gw6 + "peer NONE"}},
		{"a group address", []string{"neigh add fd00::1 lladdr 33:33:00:00:00:01 dev eth0 nud permanent"},
			[]string{gw4 + "peer NONE", "fd00::1 eth0 - InvalidEntry"}},
		{"for another address", []string{"neigh add 10.0.0.9 lladdr " + otherMAC + " dev eth0 nud permanent"},
			[]string{gw4 + "peer NONE", gw6 + "peer NONE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, pod := nstest.DualStackPair(t)
			pod.IP(c.entries...)
			before := entries(pod)
			tb := openTable(t, pod.NS)
			res := resolve(t, tb)
			expect(t, res, c.want...)
			pin(t, tb, res.Neighbors)
			for _, line := range before {
				if !strings.Contains(strings.Join(entries(pod), "\n"), line) {
					t.Errorf("%q has become %q", line, entries(pod))
				}
			}
			if _, err := tb.Release(t.Context(), res.Neighbors); err != nil {
				t.Error(err)
			}
			expectEntries(t, pod, before...)
		})
	}
}

// Where the host knows nothing, an entry of somebody else is all there is.
func TestExistingWithoutTruth(t *testing.T) {
	_, pod := bridged(t) // whose bridge does not hold the gateway
	pod.IP("neigh add 10.0.0.1 lladdr " + otherMAC + " dev eth0 nud permanent")
	expect(t, resolve(t, openTable(t, pod.NS)),
		"10.0.0.1 eth0 "+otherMAC+" inet existing PERMANENT", "fd00::1 eth0 - RouterBeyondBridge")
}

// A runtime takes the namespace between the reading of its routes and of its entries: what is gone then is not lost, and an owner's entry does not
// become one of ours.
func TestNamespaceThatIsTakenWhileItIsResolved(t *testing.T) {
	for name, c := range map[string]struct {
		take []string
		want []string
	}{
		"all addresses":     {[]string{"addr flush dev eth0 scope global", "route flush table all dev eth0"}, []string{"handed over"}},
		"the IPv4 ones yet": {[]string{"addr del 10.0.0.2/24 dev eth0"}, []string{gw6 + "peer PERMANENT"}},
		"the control: only the entry is lost": {[]string{"neigh del 10.0.0.1 dev eth0"},
			[]string{gw4 + "peer NONE", gw6 + "peer PERMANENT"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, pod := nstest.DualStackPair(t)
			pod.IP("neigh replace 10.0.0.1 lladdr " + hostMAC + " dev eth0 nud permanent")
			tb := openTable(t, pod.NS)
			first := resolve(t, tb)
			expect(t, first, gw4+"existing PERMANENT", gw6+"peer NONE")
			pin(t, tb, first.Neighbors)
			once := sync.OnceFunc(func() { pod.IP(c.take...) })
			r, err := tb.resolveBy(t.Context(), Query{Known: first.Neighbors}, func(ctx context.Context, index int, gateways []key) (rtnetlink.Link, []rtnetlink.Looked, error) {
				once()
				return tb.readLink(ctx, index, gateways)
			})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, r.result, c.want...)
		})
	}
}

func TestOursIsWhatTheRecordSaysOrTheMarkAndTheTruth(t *testing.T) {
	host, pod := nstest.DualStackPair(t)
	tb := openTable(t, pod.NS)
	owned := resolve(t, tb).Neighbors
	pin(t, tb, owned)

	fresh := openTable(t, pod.NS) // another run of the program, whose record is lost
	expect(t, resolve(t, fresh), gw4+"peer PERMANENT", gw6+"peer PERMANENT")

	// The truth changes. Only by the record is the old entry ours.
	host.IP("link set lxc0 address " + hostMAC2)
	expect(t, resolve(t, fresh), "10.0.0.1 eth0 - Contested", "fd00::1 eth0 - Contested")
	if err := fresh.Pin(t.Context(), []Neighbor{{Dst: owned[0].Dst, Dev: "eth0", LLAddr: hostMAC2, Source: SourcePeer}}); !errors.Is(err, ErrForeign) {
		t.Errorf("pinned over an entry that is not ours: %v", err)
	}
	res := resolve(t, fresh, owned...)
	expect(t, res, "10.0.0.1 eth0 "+hostMAC2+" inet peer PERMANENT", "fd00::1 eth0 "+hostMAC2+" inet6 peer PERMANENT")
	if diff := cmp.Diff([]string{gw4 + " PERMANENT", gw6 + " PERMANENT"}, lines(Resolution{Neighbors: res.Outdated})); diff != "" {
		t.Errorf("outdated (-want +got):\n%s", diff)
	}
	pin(t, fresh, res.Neighbors)
	expectEntries(t, pod, "10.0.0.1 dev eth0 lladdr "+hostMAC2+" PERMANENT proto 177",
		"fd00::1 dev eth0 lladdr "+hostMAC2+" PERMANENT proto 177")

	// Somebody else's of the same address as an old one of ours is not in the record.
	owned[0].Source = SourceExisting
	pod.IP("neigh replace 10.0.0.1 lladdr " + hostMAC + " dev eth0 nud permanent")
	expect(t, resolve(t, fresh, owned[0]), "10.0.0.1 eth0 - Contested", "fd00::1 eth0 "+hostMAC2+" inet6 peer PERMANENT")
}

// Azure's CNI makes an entry in state PROBE, and others leave what the kernel
// has learned: all of them are replaced, right or wrong.
func TestPinReplacesWhatIsNotPermanent(t *testing.T) {
	for _, state := range []string{"probe", "stale", "delay", "reachable", "noarp"} {
		for _, mac := range []string{hostMAC, otherMAC} {
			t.Run(state+" "+mac, func(t *testing.T) {
				_, pod := nstest.DualStackPair(t)
				pod.IP("neigh add 10.0.0.1 lladdr "+mac+" dev eth0 nud "+state, "neigh add fd00::1 lladdr "+mac+" dev eth0 nud "+state)
				tb := openTable(t, pod.NS)
				pin(t, tb, resolve(t, tb).Neighbors)
				expectEntries(t, pod, "10.0.0.1 dev eth0 lladdr "+hostMAC+" PERMANENT proto 177",
					"fd00::1 dev eth0 lladdr "+hostMAC+" PERMANENT proto 177")
			})
		}
	}
	t.Run("failed", func(t *testing.T) {
		_, pod := nstest.DualStackPair(t)
		pod.IP("neigh add 10.0.0.1 dev eth0 use nud none") // nobody answers
		tb := openTable(t, pod.NS)
		res := resolve(t, tb)
		if state := res.Neighbors[0].State[0]; state != "INCOMPLETE" && state != "FAILED" { // which it becomes after three seconds
			t.Fatalf("state %v", state)
		}
		pin(t, tb, res.Neighbors[:1])
		expectEntries(t, pod, "10.0.0.1 dev eth0 lladdr "+hostMAC+" PERMANENT proto 177")
	})
}

// The kernel makes an entry for the router of an advertisement, and leaves it
// without a state until it is used.
func TestPinWhereAnEntryHasNoStateYet(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	pod.IP("neigh add 10.0.0.1 dev eth0 nud none", "neigh add fd00::1 dev eth0 nud none")
	if out, err := pod.TryIP("neigh add 10.0.0.1 dev eth0 nud none"); err == nil {
		t.Fatalf("there is no entry: %s", out)
	}
	tb := openTable(t, pod.NS)
	pin(t, tb, resolve(t, tb).Neighbors)
	expectEntries(t, pod, "10.0.0.1 dev eth0 lladdr "+hostMAC+" PERMANENT proto 177",
		"fd00::1 dev eth0 lladdr "+hostMAC+" PERMANENT proto 177")
}

// The namespace's owner may be at work still, as AWS's CNI between route and entry.
func TestEntryThatAppearsBetweenResolveAndPin(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	tb := openTable(t, pod.NS)
	res := resolve(t, tb)
	pod.IP("neigh add 10.0.0.1 lladdr "+otherMAC+" dev eth0 nud permanent",
		"neigh add fd00::1 lladdr "+hostMAC+" dev eth0 nud permanent")
	err := tb.Pin(t.Context(), res.Neighbors)
	var which *EntryError
	if !errors.Is(err, ErrForeign) || !errors.As(err, &which) || which.Dst != netip.MustParseAddr("10.0.0.1") || which.Dev != "eth0" {
		t.Errorf("error %v", err)
	}
	expectEntries(t, pod, "10.0.0.1 dev eth0 lladdr "+otherMAC+" PERMANENT", "fd00::1 dev eth0 lladdr "+hostMAC+" PERMANENT")
}

func TestReleaseTakesOnlyWhatIsOurs(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	pod.IP("route add 192.0.2.0/24 via 10.0.0.3", "route add 198.51.100.0/24 via 10.0.0.4", "route add 203.0.113.0/24 via 10.0.0.5",
		"neigh add 10.0.0.9 lladdr "+otherMAC+" dev eth0 nud permanent")
	tb := openTable(t, pod.NS)
	owned := resolve(t, tb).Neighbors
	pin(t, tb, owned)
	pod.IP("neigh replace 10.0.0.3 lladdr "+otherMAC+" dev eth0 nud permanent", // another address
		"neigh replace 10.0.0.4 lladdr "+hostMAC+" dev eth0 nud stale", // not permanent
		"neigh del 10.0.0.5 dev eth0",
		"neigh add 10.0.0.5 lladdr "+hostMAC+" dev eth0 nud permanent") // made anew, without our mark
	released, err := tb.Release(t.Context(), owned)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, Resolution{Neighbors: released}, gw4+"peer NONE", gw6+"peer NONE")
	expectEntries(t, pod, "10.0.0.9 dev eth0 lladdr "+otherMAC+" PERMANENT",
		"10.0.0.3 dev eth0 lladdr "+otherMAC+" PERMANENT proto 177",
		"10.0.0.4 dev eth0 lladdr "+hostMAC+" STALE proto 177",
		"10.0.0.5 dev eth0 lladdr "+hostMAC+" PERMANENT")

	// Again, and without the link: nothing to do is no error.
	pod.IP("link del eth0")
	if released, err := tb.Release(t.Context(), owned); len(released) > 0 || err != nil {
		t.Errorf("released %v, %v", released, err)
	}
}

func TestPinNamesEachEntryThatFails(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	tb := openTable(t, pod.NS)
	good := resolve(t, tb).Neighbors
	dst := good[0].Dst
	bad := []Neighbor{
		{Dst: dst, Dev: "eth7", LLAddr: hostMAC},
		{Dst: dst, Dev: "a name longer than any", LLAddr: hostMAC},
		{Dst: dst, Dev: "", LLAddr: hostMAC},
		{Dst: dst, Dev: "eth0", LLAddr: "00:00:00:00:00:00"},
		{Dst: dst, Dev: "eth0", LLAddr: "ff:ff:ff:ff:ff:ff"},
		{Dst: dst, Dev: "eth0", LLAddr: "nonsense"},
		{Dst: netip.Addr{}, Dev: "eth0", LLAddr: hostMAC},
		{Dst: netip.MustParseAddr("224.0.0.1"), Dev: "eth0", LLAddr: hostMAC},
	}
	err := tb.Pin(t.Context(), append(bad, good...))
	var list interface{ Unwrap() []error }
	if !errors.As(err, &list) || len(list.Unwrap()) != len(bad) || !errors.Is(err, unix.ENODEV) {
		t.Errorf("error %v", err)
	}
	if diffs, err := tb.Verify(t.Context(), good); len(diffs) > 0 || err != nil {
		t.Errorf("the good ones: %v, %v", diffs, err)
	}
}

func TestVerifyShowsWantedAndGot(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	tb := openTable(t, pod.NS)
	want := resolve(t, tb).Neighbors
	diffs, err := tb.Verify(t.Context(), want)
	if err != nil || len(diffs) != 2 || diffs[0].Got.State[0] != "NONE" || diffs[0].Want.LLAddr != hostMAC {
		t.Errorf("not pinned: %+v, %v", diffs, err)
	}
	pin(t, tb, want)
	pod.IP("neigh replace 10.0.0.1 lladdr "+otherMAC+" dev eth0 nud permanent", "neigh replace fd00::1 dev eth0 use nud none")
	diffs, err = tb.Verify(t.Context(), want)
	if err != nil || len(diffs) != 2 || diffs[0].Got.LLAddr != otherMAC || diffs[1].Got.State[0] == "PERMANENT" || diffs[1].Family != "inet6" {
		t.Errorf("changed: %+v, %v", diffs, err)
	}
	pod.IP("link del eth0")
	if diffs, err := tb.Verify(t.Context(), want); err != nil || len(diffs) != 2 {
		t.Errorf("without the link: %+v, %v", diffs, err)
	}
}
