// SPDX-License-Identifier: Apache-2.0

package hoststate

import "testing"

// Where packets with a mark, of a port or of a user go elsewhere, the way is that of all others, and a find stays one. Where the pod is
// reached by such packets alone, less is found, and nothing that is not true.
func TestPacketsThatRulesSendElsewhere(t *testing.T) {
	n := newNode(t)
	_, addresses := n.pod("veth5", podIP)
	const away, there = "blackhole " + podIP, podIP + " dev cni0"
	for name, c := range map[string]struct {
		rule, main, table string
		state             string
		found             int
	}{
		"with a mark, elsewhere":              {"fwmark 0x1", there, away, "stale", 1},
		"to a port, elsewhere":                {"ipproto tcp dport 80", there, away, "stale", 1},
		"of another user, elsewhere":          {"uidrange 1000-1000", there, away, "stale", 1},
		"that come in, elsewhere":             {"iif cni0", there, away, "stale", 1},
		"of everybody, elsewhere":             {"uidrange 0-0", there, away, "stale", 0}, // as forwarded ones are, the kernel's
		"with a mark, to the pod":             {"fwmark 0x1", away, there, "stale", 0},
		"with a mark, by a fixed entry":       {"fwmark 0x1", away, there, "permanent", 1},
		"with a mark, by the pod's own entry": {"fwmark 0x1", away, there, "its own", 0},
	} {
		t.Run(name, func(t *testing.T) {
			n := node{n.NS, t}
			n.IP("route replace "+c.main, "route replace "+c.table+" table 100", "rule add "+c.rule+" lookup 100")
			t.Cleanup(func() {
				n.IP("rule delete lookup 100", "route flush table 100", "route delete "+podIP, "neighbor flush dev cni0 nud all")
			})
			entry := podIP + " lladdr " + dead + " dev cni0 nud " + c.state
			if c.state == "its own" {
				entry = podIP + " lladdr " + string(addresses[0].LLAddr) + " dev cni0 nud permanent"
			}
			n.IP("neighbor replace " + entry)
			if finds := n.look(addresses); len(finds) != c.found {
				t.Errorf("found %v", finds)
			}
		})
	}
}
