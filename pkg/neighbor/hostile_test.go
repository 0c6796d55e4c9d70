// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// twoLinks makes a pod with a gateway on each of two links.
func twoLinks(t *testing.T) (host, pod *nstest.NS) {
	t.Helper()
	host, pod = nstest.Pair(t)
	pod.Veth("eth1", host, "lxc1")
	host.IP("link set lxc1 address " + hostMAC2)
	pod.IP("addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1",
		"addr add 10.1.0.2/24 dev eth1", "route add 192.0.2.0/24 via 10.1.0.1")
	return host, pod
}

// swap gives two links each other's name, which the kernel allows while they are
// up (net/core/dev.c, dev_change_name).
var swap = []string{"link set eth0 name tmp0", "link set eth1 name eth0", "link set tmp0 name eth1"}

// A pod with NET_ADMIN swaps two links' names after they were looked at. The pin
// is made on the link that it is true of.
func TestLinksThatSwapNamesBeforeThePin(t *testing.T) {
	_, pod := twoLinks(t)
	tb := openTable(t, pod.NS)
	res := resolve(t, tb)
	expect(t, res, gw4+"peer NONE", "10.1.0.1 eth1 "+hostMAC2+" inet peer NONE")
	pod.IP(swap...)
	pin(t, tb, res.Neighbors)
	res = resolve(t, tb, res.Neighbors...)
	expect(t, res, "10.0.0.1 eth1 "+hostMAC+" inet peer PERMANENT", "10.1.0.1 eth0 "+hostMAC2+" inet peer PERMANENT")
	pin(t, tb, res.Neighbors)
	expectEntries(t, pod, "10.0.0.1 dev eth1 lladdr "+hostMAC+" PERMANENT proto 177",
		"10.1.0.1 dev eth0 lladdr "+hostMAC2+" PERMANENT proto 177")

	// A link that takes the place of one that is gone is another.
	pod.IP("link del eth1")
	pod.Veth("eth1", nstest.New(t), "x0")
	if err := tb.Pin(t.Context(), res.Neighbors[:1]); !errors.Is(err, unix.ENODEV) {
		t.Errorf("pinned on a new link of an old name: %v", err)
	}
}

// step is `ip` commands in a namespace, of which some may fail.
type step struct {
	in    *nstest.NS
	batch string
}

func stepIn(t *testing.T, ns *nstest.NS, lines ...string) step {
	t.Helper()
	path := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return step{in: ns, batch: path}
}

// during calls look for as long as steps are taken, each rounds times.
func during(t *testing.T, rounds int, steps []step, look func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range rounds {
			for _, s := range steps {
				_, _ = s.in.Run("ip", "-force", "-batch", s.batch)
			}
		}
	}()
	defer func() { <-done }()
	for {
		select {
		case <-done:
			return
		default:
			look()
		}
	}
}

// Whatever names the links have at the moment, a gateway's address is that of the
// other end of the link which its route is on, and a pin stands on that link.
func TestLinksThatSwapNamesWhileTheyAreRead(t *testing.T) {
	_, pod := twoLinks(t)
	tb := openTable(t, pod.NS)
	truth := map[string]HardwareAddr{"10.0.0.1": hostMAC, "10.1.0.1": hostMAC2}
	refused := 0
	during(t, 100, []step{stepIn(t, pod, swap...)}, func() {
		res, err := tb.Resolve(t.Context(), Query{})
		if errors.Is(err, ErrInterrupted) {
			return
		}
		if err != nil || len(res.Neighbors)+len(res.Skipped) != 2 {
			t.Errorf("%+v, %v", res, err)
		}
		for _, n := range res.Neighbors {
			if n.LLAddr != truth[n.Dst.String()] {
				t.Errorf("%+v", n)
			}
		}
		if err := tb.Pin(t.Context(), res.Neighbors); errors.Is(err, unix.ENODEV) {
			refused++
		} else if err != nil {
			t.Error(err)
		}
	})
	t.Logf("%d times a pin was refused", refused)
	res := resolve(t, tb)
	pin(t, tb, res.Neighbors)
	var want []string
	for _, n := range res.Neighbors {
		want = append(want, fmt.Sprintf("%s dev %s lladdr %s PERMANENT proto 177", n.Dst, n.Dev, truth[n.Dst.String()]))
	}
	expectEntries(t, pod, want...) // and none on the other link
}

// The link, or what lies beyond, goes away in the midst of it and comes again.
// Each answer is of one moment, or says that it is none.
func TestLinkThatIsTornDownWhileItIsRead(t *testing.T) {
	host, pod := nstest.New(t), nstest.New(t)
	for name, destroy := range map[string]step{
		"the pod's end":    stepIn(t, pod, "link del eth0"),
		"the host's end":   stepIn(t, host, "link del lxc0"),
		"the bridge above": stepIn(t, host, "link set lxc0 nomaster", "link del cni0"),
	} {
		t.Run(name, func(t *testing.T) {
			tb := tableFor(t, pod, host)
			seen := make(map[Reason]int)
			during(t, 25, []step{
				stepIn(t, host, "link add lxc0 address "+hostMAC+" type veth peer name eth0 netns "+pod.Ref(), "link set lxc0 up",
					"link add name cni0 type bridge", "link set cni0 up", "addr add 10.0.0.1/24 dev cni0", "link set lxc0 master cni0"),
				stepIn(t, pod, "link set eth0 up", "addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1"),
				destroy,
			}, func() {
				for _, running := range []bool{false, true} {
					res, err := tb.Resolve(t.Context(), Query{Running: running})
					if err != nil && !errors.Is(err, ErrInterrupted) {
						t.Error(err)
					}
					for _, n := range res.Neighbors {
						seen["known"]++
						if n.LLAddr != hostMAC || n.Source != SourcePort && n.Source != SourcePeer {
							t.Errorf("%+v", n)
						}
					}
					for _, s := range res.Skipped {
						seen[s.Reason]++
					}
				}
			})
			if t.Log(seen); seen["known"] == 0 {
				t.Error("nothing was ever known")
			}
		})
	}
}

// The same at the moments that are hard to meet: between the routes and the link,
// and between the link and the entry.
func TestLinkThatIsGoneAtEachStep(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	tb := openTable(t, pod.NS)
	index := linkIndex(t, tb, "eth0")
	l, err := tb.conn.Link(t.Context(), index, rtnetlink.NSIDNone)
	if err != nil {
		t.Fatal(err)
	}
	pod.IP("link del eth0")
	k := key{Dst: mustAddr("10.0.0.1"), Index: index}
	for name, step := range map[string]func(*resolver) error{
		"after the routes": func(r *resolver) error { return r.resolveLink(t.Context(), index, []key{k}) },
		"after the link": func(r *resolver) error {
			e, err := tb.conn.Entry(t.Context(), k)
			at := rtnetlink.Looked{Entry: e, Err: err}
			return r.resolveGateway(t.Context(), k, l, outlook{finding: finding{lladdr: hostMAC, source: SourcePeer}}, at)
		},
	} {
		r := tb.newResolver(Query{})
		if err := step(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(r.result.Skipped) != 1 || r.result.Skipped[0].Reason != ReasonLinkGone || len(r.result.Neighbors) > 0 {
			t.Errorf("%s: %+v", name, r.result)
		}
	}
	r := tb.newResolver(Query{})
	if err := r.askInstead(t.Context(), k, l, ReasonRouterBeyondBridge); err != nil || len(r.result.Unknown) != 1 || r.result.Unknown[0].Src.IsValid() {
		t.Errorf("a question on a link that is gone: %+v, %v", r.result.Unknown, err)
	}
}

// A pod fills its tables: the work is bounded, what matters is found, and the
// limit is told.
func TestTablesThatAPodFills(t *testing.T) {
	host, pod := bridged(t)
	var lines []string
	for i := range 2000 {
		lines = append(lines, fmt.Sprintf("addr add 10.0.%d.%d/32 dev eth0", i/250+4, i%250+1),
			fmt.Sprintf("route add 198.18.%d.%d/32 via 10.0.0.%d", i/250, i%250+1, i%200+20),
			fmt.Sprintf("neigh add 10.0.%d.%d lladdr %s dev eth0 nud permanent protocol 177", i/250+32, i%250+1, otherMAC))
	}
	pod.IP(lines...)
	res := look(t, tableFor(t, pod, host), Query{Limit: 16})
	if len(res.Skipped) != 17 || res.Skipped[16].Reason != ReasonLimitReached || len(res.Neighbors) > 0 {
		t.Errorf("%d skipped, the last %+v, %d known", len(res.Skipped), res.Skipped[len(res.Skipped)-1], len(res.Neighbors))
	}
	if len(res.Unknown) != 16 || len(res.Basis) != 2 {
		t.Errorf("%d questions, basis %v", len(res.Unknown), res.Basis)
	}
	found := false
	for _, s := range res.Skipped {
		found = found || s.Dst == mustAddr("10.0.0.1")
	}
	if !found {
		t.Error("the default gateway is lost among the others")
	}
}
