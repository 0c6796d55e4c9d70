// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// leave plants what an old CNI's deletion that never ran leaves behind.
func (n node) leave() {
	n.t.Helper()
	n.IP("neighbor replace "+podIP+" lladdr "+dead+" dev cni0 nud permanent", "neighbor replace fd01::5 lladdr "+dead+" dev cni0 nud stale")
	n.ebtables(
		"-t nat -A PREROUTING -p ARP --arp-op Request --arp-ip-dst 10.1.0.9 -j arpreply --arpreply-mac "+dead,
		"-t nat -A PREROUTING -p ARP --arp-op Request --arp-ip-dst "+podIP+" -j arpreply --arpreply-mac "+dead+" --arpreply-target DROP",
		"-t nat -A PREROUTING -p IPv4 -i cni0 --ip-dst "+podIP+" -j dnat --to-dst "+dead+" --dnat-target ACCEPT",
		"-t nat -A PREROUTING -p IPv6 --ip6-dst fd01::5 -j dnat --to-dst "+dead,
		"-t nat -A POSTROUTING -p IPv4 --ip-src "+podIP+" -j snat --to-src "+dead+" --snat-arp",
	)
}

func TestLeftoversAreFoundCleanedAndPutBack(t *testing.T) {
	n := newNode(t)
	_, addresses := n.pod("veth5", podIP)
	if finds := n.look(addresses); len(finds) != 0 {
		t.Fatalf("found without leftovers: %v", finds)
	}
	clean := n.dump()
	n.ebtables("-t nat -A PREROUTING -p ARP --arp-op Request --arp-ip-dst 10.1.0.9 -j arpreply --arpreply-mac " + dead)
	other := n.ruleDump()
	n.ebtables("-t nat -F PREROUTING")
	n.leave()
	before := n.dump()

	finds := n.look(addresses)
	for _, f := range finds {
		t.Log(f, "|", f.Restore)
	}
	if len(finds) != 6 {
		t.Fatalf("found %d, want 6: two entries and four rules", len(finds))
	}
	if n.dump() != before {
		t.Error("looking has changed something")
	}
	removed := n.clean(addresses)
	for _, f := range removed {
		if !f.Removed {
			t.Errorf("not removed: %v", f)
		}
	}
	if got := n.dump(); got != clean+other {
		t.Errorf("after clean:\n%s\nwant:\n%s", got, clean+other)
	}
	if finds := n.look(addresses); len(finds) != 0 {
		t.Errorf("found after clean: %v", finds)
	}
	n.restore(removed)
	if got := n.dump(); got != before {
		t.Errorf("put back:\n%s\nwant:\n%s", got, before)
	}
	if again := n.look(addresses); len(again) != 6 {
		t.Errorf("put back, %d are found", len(again))
	}
	n.clean(addresses)
}

// reaches tells whether a pod refuses a connection within a time.
func reaches(ip string, within time.Duration) bool {
	conn, err := net.DialTimeout("tcp", ip+":9", within)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil || errors.Is(err, unix.ECONNREFUSED)
}

// A pod's IP is given to another within seconds, and the host's entry still has the
// old MAC: it is not asked for again until the entry has been found dead.
func TestStaleEntryOfAReusedIP(t *testing.T) {
	n := newNode(t)
	for _, state := range []string{"stale", "reachable", "delay"} {
		t.Run(state, func(t *testing.T) {
			n := node{n.NS, t}
			pod, addresses := n.pod("veth5", podIP)
			pod.IP("route add default via 10.1.0.1")
			n.IP("neighbor replace " + podIP + " lladdr " + dead + " dev cni0 nud " + state)
			if finds := n.look(addresses); len(finds) != 1 || finds[0].LLAddr != dead {
				t.Fatalf("found %v", finds)
			}
			if reaches(podIP, time.Second/2) {
				t.Fatal("control: the old entry does no harm")
			}
			// The old entry would lose what is sent for five seconds. A machine that stands still for as long has another try.
			reached := false
			for range 3 {
				n.IP("neighbor replace " + podIP + " lladdr " + dead + " dev cni0 nud " + state)
				n.clean(addresses)
				if reached = reaches(podIP, 4*time.Second); reached {
					break
				}
			}
			if !reached {
				t.Error("after clean the pod is not reached")
			}
			n.IP("neighbor flush dev cni0")
		})
	}
}

func TestWhatIsNotAFind(t *testing.T) {
	n := newNode(t)
	pod, addresses := n.pod("veth5", podIP)
	otherPod, _ := n.pod("veth6", "10.1.0.6")
	otherPod.IP("address flush dev eth0")
	mac, otherMAC := pod.MAC("eth0"), otherPod.MAC("eth0")
	// A network of its own, in which the same IP is another's.
	n.IP("link add isolated type bridge", "link set isolated up")
	t.Cleanup(func() { n.IP("link delete isolated") })
	n.IP("link add below type veth peer name beyond", "link add uplink link below type macvlan", "link set below up", "link set uplink up")
	t.Cleanup(func() { n.IP("link delete below") })
	for name, plant := range map[string]func(){
		"the pod's own entry":                  func() { n.IP("neighbor replace " + podIP + " lladdr " + mac + " dev cni0 nud permanent") },
		"an entry of a live pod":               func() { n.IP("neighbor replace " + podIP + " lladdr " + otherMAC + " dev cni0 nud permanent") },
		"another address":                      func() { n.IP("neighbor replace 10.1.0.9 lladdr " + dead + " dev cni0 nud permanent") },
		"the same address in a network apart":  func() { n.IP("neighbor replace " + podIP + " lladdr " + dead + " dev isolated nud stale") },
		"the same address where others may be": func() { n.IP("neighbor replace " + podIP + " lladdr " + dead + " dev uplink nud permanent") },
		"an entry without an address":          func() { _, _ = n.TryIP("neighbor replace " + podIP + " dev cni0 nud failed") },
		"a rule with the pod's address": func() {
			n.ebtables("-t nat -A PREROUTING -p ARP --arp-ip-dst " + podIP + " -j arpreply --arpreply-mac " + mac)
		},
		"a rule with a live address": func() {
			n.ebtables("-t nat -A PREROUTING -p ARP --arp-ip-dst " + podIP + " -j arpreply --arpreply-mac " + otherMAC)
		},
		"a rule for another address":     func() { n.ebtables("-t nat -A PREROUTING -p IPv4 --ip-dst 10.1.0.9 -j dnat --to-dst " + dead) },
		"a rule for a network":           func() { n.ebtables("-t nat -A PREROUTING -p IPv4 --ip-dst 10.1.0.0/24 -j dnat --to-dst " + dead) },
		"a rule for all but the address": func() { n.ebtables("-t nat -A PREROUTING -p IPv4 ! --ip-dst " + podIP + " -j dnat --to-dst " + dead) },
		"a rule that writes nothing":     func() { n.ebtables("-t nat -A PREROUTING -p IPv4 --ip-dst " + podIP + " -j DROP") },
		"an address whose frames a rule takes up": func() {
			n.ebtables("-t nat -A PREROUTING -p ARP --arp-ip-dst "+podIP+" -j arpreply --arpreply-mac "+dead,
				"-t nat -A PREROUTING -d "+dead+" -j redirect")
		},
		"a forwarding entry has it": func() {
			n.IP("neighbor replace " + podIP + " lladdr " + dead + " dev cni0 nud permanent")
			if out, err := n.Run("bridge", "fdb", "add", dead, "dev", "veth6", "master", "static"); err != nil {
				t.Fatal(out)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			plant()
			before := n.dump()
			if finds := n.look(addresses); len(finds) != 0 {
				t.Errorf("found %v", finds)
			}
			n.clean(addresses)
			if after := n.dump(); after != before {
				t.Errorf("clean changed\n%s\nto\n%s", before, after)
			}
			_, _ = n.Run("bridge", "fdb", "del", dead, "dev", "veth6", "master")
			n.ebtables("-t nat -F")
			for _, dev := range []string{"cni0", "isolated", "uplink"} {
				n.IP("neighbor flush dev " + dev + " nud all")
			}
		})
	}
}

// The bridge of the old CNI, on which the IP is named, is not on the host's way to
// the pod any more.
func TestPermanentEntryOnAnAbandonedBridge(t *testing.T) {
	n := newNode(t)
	n.IP("link add azure0 type bridge", "link set azure0 up")
	t.Cleanup(func() { n.IP("link delete azure0") })
	_, addresses := n.pod("veth5", podIP)
	n.IP("neighbor replace " + podIP + " lladdr " + dead + " dev azure0 nud permanent")
	finds := n.clean(addresses)
	if len(finds) != 1 || finds[0].Dev != "azure0" || !finds[0].Removed {
		t.Errorf("found %v", finds)
	}
	t.Run("by hand, of nobody's address", func(t *testing.T) {
		n.IP("neighbor replace " + podIP + " lladdr " + dead + " dev azure0 nud permanent")
		unknown := []Address{{Addr: addresses[0].Addr}}
		if finds := n.look(unknown); len(finds) != 1 {
			t.Errorf("found %v", finds)
		}
	})
}

func TestNativeRules(t *testing.T) {
	n := newNode(t)
	_, addresses := n.pod("veth5", podIP)
	n.table(
		(&native{}).to("10.1.0.9").sets(deadBytes),
		(&native{}).to(podIP).sets(deadBytes).accept(),
		(&native{}).to(podIP).limit().sets(deadBytes),
		(&native{}).to(podIP).accept(),
	)
	before := strings.Split(n.ruleDump(), "\n")
	finds := n.clean(addresses)
	if len(finds) != 2 {
		t.Fatalf("found %v", finds)
	}
	const want = "nft insert rule bridge leftover pods index 1 ether type 0x800 ip daddr 10.1.0.5 ether daddr set 02:de:ad:00:00:01 accept"
	if f := finds[0]; !f.Removed || f.Restore != want {
		t.Errorf("%v, removed %t, put back by %q, want %q", f, f.Removed, f.Restore, want)
	}
	if f := finds[1]; f.Removed || f.Keeps == "" || f.Restore != "" {
		t.Errorf("a rule with a word that is not known: %+v", f)
	}
	// Places move up.
	want2 := []string{before[0], strings.Replace(before[2], " 2 ", " 1 ", 1), strings.Replace(before[3], " 3 ", " 2 ", 1), ""}
	if after := strings.Split(n.ruleDump(), "\n"); !slices.Equal(after, want2) {
		t.Errorf("left:\n%q\nwant:\n%q", after, want2)
	}
}

// Who changed the rules after they were read has made the look worthless: then
// nothing is removed.
func TestRulesAreRemovedAllOrNone(t *testing.T) {
	n := newNode(t)
	n.leave()
	filter := n.netfilter()
	generation, err := filter.generation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rules, err := filter.rules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n.ebtables("-t nat -A OUTPUT -j ACCEPT")
	before := n.ruleDump()
	if err := filter.remove(t.Context(), generation, rules); !errors.Is(err, errMoved) {
		t.Errorf("removed after a change: %v", err)
	}
	if generation, err = filter.generation(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone := rules[0]
	gone.handle = 1 << 40
	if err := filter.remove(t.Context(), generation, append(rules[1:2:2], gone)); !errors.Is(err, errMoved) {
		t.Errorf("removed with one that is not there: %v", err)
	}
	if after := n.ruleDump(); after != before {
		t.Errorf("changed:\n%s\nto:\n%s", before, after)
	}
}

func TestLegacyTablesAreToldOf(t *testing.T) {
	dir := t.TempDir()
	if unread := legacyTables(dir); len(unread) != 0 {
		t.Errorf("unread: %q", unread)
	}
	if err := os.Mkdir(filepath.Join(dir, "ebtable_nat"), 0o700); err != nil {
		t.Fatal(err)
	}
	if unread := legacyTables(dir); len(unread) != 1 || !strings.Contains(unread[0], "table nat of legacy ebtables") {
		t.Errorf("unread: %q", unread)
	}
}

func TestOnlyEntriesThatAreAsTheyWereAreRemoved(t *testing.T) {
	n := newNode(t)
	_, addresses := n.pod("veth5", podIP)
	n.IP("neighbor replace " + podIP + " lladdr " + dead + " dev cni0 nud permanent")
	host, err := openHost()
	if err != nil {
		t.Fatal(err)
	}
	defer host.close()
	entries, err := host.entries(t.Context(), []netip.Addr{addresses[0].Addr})
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	n.IP("neighbor replace " + podIP + " lladdr 02:00:00:00:00:77 dev cni0 nud permanent")
	if removed, err := host.remove(t.Context(), entries[0]); removed || err != nil {
		t.Errorf("removed %t, %v, an entry that somebody has corrected", removed, err)
	}
}
