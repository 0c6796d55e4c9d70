// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"

	current "github.com/containernetworking/cni/pkg/types/100"
)

// noARP looks like netkit in its layer 3 mode (drivers/net/netkit.c), which this test bed cannot count on: the pod's link resolves no
// addresses (IFF_NOARP) and sends everything to its own MAC, which is also the other end's. A netkit link has no MAC at all; here a tun
// link, with a route of its own through a gateway, stands for that.
//
// The node has entries for the pod, since the pod answers no questions, and the gateways, since gVisor asks for them on whatever link
// has a MAC.
func noARP(e *Env) (*current.Result, error) {
	result, err := e.Addresses()
	if err != nil {
		return nil, err
	}
	pod4, pod6 := single(result, CiliumGateway4, CiliumGateway6)
	host, err := e.Veth(VethOptions{HostMAC: e.MAC(), PodMAC: e.MAC()})
	if err != nil {
		return nil, err
	}
	if err := e.routeToPod(pod4, pod6); err != nil {
		return nil, err
	}
	err = ip(fmt.Sprintf(`
		address add %[5]s/32 dev %[1]s
		-6 address add %[6]s/128 dev %[1]s nodad
		neigh add %[2]s dev %[1]s lladdr %[4]s nud permanent
		-6 neigh add %[3]s dev %[1]s lladdr %[4]s nud permanent`, e.HostLink, pod4, pod6, e.MAC(), CiliumGateway4, CiliumGateway6))
	if err != nil {
		return nil, err
	}
	err = e.Inside(func() error {
		return ip(fmt.Sprintf(`
			link set %[1]s arp off
			address add %[2]s/32 dev %[1]s
			-6 address add %[3]s/128 dev %[1]s nodad
			route add %[4]s dev %[1]s scope link
			route add default via %[4]s dev %[1]s
			-6 route add %[5]s dev %[1]s
			-6 route add default via %[5]s dev %[1]s
			tuntap add dev tun0 mode tun
			link set tun0 up
			route add 203.0.113.0/24 via 192.0.2.1 dev tun0 onlink`, e.IfName, pod4, pod6, CiliumGateway4, CiliumGateway6))
	})
	if err != nil {
		return nil, err
	}
	return e.Interfaces(result, host)
}
