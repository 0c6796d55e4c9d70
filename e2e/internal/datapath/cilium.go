// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net"
	"net/netip"

	current "github.com/containernetworking/cni/pkg/types/100"
)

// Cilium's gateways: addresses that no link of the node has here. (A real node has them on cilium_host; whether it has changes
// nothing for pods, whose questions a program answers.)
const (
	CiliumGateway4 = "10.96.0.1"
	CiliumGateway6 = "fd96::1"
)

// responding says whether a program on the host's end answers the pod's questions for its gateways.
type responding int

const (
	silent responding = iota
	answering
)

// cilium is the network of Cilium's CNI plugin (plugins/cilium-cni/cmd/cmd.go): the pod has its addresses alone, without
// duplicate address detection; its gateways are on-link routes; the last thing that happens is that eth0's MAC is set again. On the
// node there are a route to the pod and, where it is answering, a program on the host's end.
//
// flags are those of the IPv6 address: nodad, or none for a plugin that leaves duplicate address detection on and does not wait for it.
func cilium(node responding, flags string) func(*Env) (*current.Result, error) {
	return func(e *Env) (*current.Result, error) {
		result, err := e.Addresses()
		if err != nil {
			return nil, err
		}
		pod4, pod6 := single(result, CiliumGateway4, CiliumGateway6)
		host, err := e.Veth(VethOptions{HostMAC: e.MAC()})
		if err != nil {
			return nil, err
		}
		if node == answering {
			r := responder{mac: host.Attrs().HardwareAddr, pod4: addr(pod4), router: netip.MustParseAddr(CiliumGateway6)}
			if err := r.attach(host.Attrs().Index); err != nil {
				return nil, err
			}
		}
		if err := e.routeToPod(pod4, pod6); err != nil {
			return nil, err
		}
		err = e.Inside(func() error {
			err := ip(fmt.Sprintf(`
				address add %[2]s/32 dev %[1]s
				-6 address add %[3]s/128 dev %[1]s %[6]s
				route add %[4]s/32 dev %[1]s scope link
				route add default via %[4]s dev %[1]s mtu 1500
				-6 route add %[5]s/128 dev %[1]s
				-6 route add default via %[5]s dev %[1]s mtu 1500`, e.IfName, pod4, pod6, CiliumGateway4, CiliumGateway6, flags))
			if err != nil {
				return err
			}
			return e.setMACAgain()
		})
		if err != nil {
			return nil, err
		}
		return e.Interfaces(result, host)
	}
}

// routeToPod gives the node its routes to the pod.
func (e *Env) routeToPod(pod4, pod6 net.IP) error {
	return ip(fmt.Sprintf(`
		route add %[2]s/32 dev %[1]s scope link
		-6 route add %[3]s/128 dev %[1]s`, e.HostLink, pod4, pod6))
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
