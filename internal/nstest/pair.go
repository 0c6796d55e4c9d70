// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"fmt"
	"testing"
)

// MAC addresses that tests give to links of the host, or to nobody. A pod's own are the kernel's.
const (
	HostMAC  = "02:00:00:00:00:01" // of the end that Pair makes
	HostMAC2 = "02:00:00:00:00:02"
	OtherMAC = "02:00:00:00:00:99"
)

// Pair makes a pod with one link to the host, as most CNI plugins do: eth0, whose other end is the host's lxc0.
func Pair(tb testing.TB) (host, pod *NS) {
	tb.Helper()
	host, pod = New(tb), New(tb)
	pod.Veth("eth0", host, "lxc0")
	host.IP("link set lxc0 address " + HostMAC)
	return host, pod
}

// DualStackPair is Pair with a pod of both families.
func DualStackPair(tb testing.TB) (host, pod *NS) {
	tb.Helper()
	host, pod = Pair(tb)
	pod.DualStack()
	return host, pod
}

// DualStack gives eth0 addresses and default routes of both families. Without
// nodad the kernel would choose ::1 as the source for a moment.
func (n *NS) DualStack() {
	n.tb.Helper()
	n.IP("addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1",
		"addr add fd00::2/64 dev eth0 nodad", "route add default via fd00::1")
}

// Flood gives the namespace routes to networks of their own by way of that many gateways, all on eth0.
func (n *NS) Flood(routes, gateways int) {
	n.tb.Helper()
	n.IP("address add 172.16.0.2/12 dev eth0")
	var lines []string
	for i := range routes {
		g := i%gateways + 256
		lines = append(lines, fmt.Sprintf("route add 100.%d.%d.%d/32 via 172.16.%d.%d", i>>16, i>>8&255, i&255, g>>8, g&255))
	}
	n.IP(lines...)
}
