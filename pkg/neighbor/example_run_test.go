// SPDX-License-Identifier: Apache-2.0

package neighbor_test

import (
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// The package's example does what it says, to a pod whose routed link ends on the host and whose other one ends on a bridge
// that does not hold the gateway's address.
func TestTheExamplePinsTheGatewayThatTheHostKnows(t *testing.T) {
	host, pod := nstest.Own(t), nstest.New(t)
	pod.Veth("eth0", host, "veth0")
	pod.Veth("net1", host, "veth1")
	host.IP("link add br1 type bridge", "link set br1 up", "link set veth1 master br1")
	t.Cleanup(func() { host.IP("link del br1") })
	pod.IP("addr add 10.88.0.2/24 dev eth0", "addr add 10.99.0.2/24 dev net1",
		"route add default via 10.88.0.1", "route add 10.100.0.0/16 via 10.99.0.1")
	skipped, err := pinGateways(t.Context(), pod.Mount())
	if err != nil {
		t.Fatal(err)
	}
	want := "10.88.0.1 dev eth0 lladdr " + host.MAC("veth0")
	if got := pod.Output("neigh", "show", "nud", "permanent"); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, want) {
		t.Errorf("pinned %q, want %q and nothing else", got, want)
	}
	if len(skipped) != 1 || skipped[0].Reason != neighbor.ReasonRouterBeyondBridge {
		t.Errorf("skipped %+v, want the router beyond the bridge", skipped)
	}
}
