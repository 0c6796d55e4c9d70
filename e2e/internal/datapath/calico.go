// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net"

	current "github.com/containernetworking/cni/pkg/types/100"
)

// Calico's constants: the gateways of every pod and the MAC of every host's end. The IPv6 gateway is the link-local address that the
// kernel makes of that MAC.
const (
	CalicoGateway4 = "169.254.1.1"
	CalicoGateway6 = "fe80::ecee:eeff:feee:eeee"
	CalicoMAC      = "ee:ee:ee:ee:ee:ee"
)

// calico is the network of Calico's CNI plugin (cni-plugin/pkg/dataplane/linux/dataplane_linux.go): nobody has 169.254.1.1, for which
// the kernel answers on the host's end if proxyARP says so and the node has another way to it, after a random delay of up to proxyDelay
// hundredths of a second. Calico sets that to 0; the kernel's own is 80, which is what others have who only switch the proxy on.
func calico(proxyARP, proxyDelay string) func(*Env) (*current.Result, error) {
	return func(e *Env) (*current.Result, error) {
		result, err := e.Addresses()
		if err != nil {
			return nil, err
		}
		pod4, pod6 := single(result, CalicoGateway4, CalicoGateway6)
		mac, err := net.ParseMAC(CalicoMAC)
		if err != nil {
			return nil, err
		}
		if err := e.WithoutDAD(); err != nil {
			return nil, err
		}
		host, err := e.Veth(VethOptions{HostMAC: mac})
		if err != nil {
			return nil, err
		}
		err = errors.Join(
			Sysctl("ipv4/conf/"+e.HostLink+"/proxy_arp", proxyARP),
			Sysctl("ipv4/neigh/"+e.HostLink+"/proxy_delay", proxyDelay),
			Sysctl("ipv4/conf/"+e.HostLink+"/forwarding", "1"), // without which there is no proxy
			e.routeToPod(pod4, pod6))
		if err != nil {
			return nil, err
		}
		err = e.Inside(func() error {
			return ip(fmt.Sprintf(`
				address add %[2]s/32 dev %[1]s
				-6 address add %[3]s/128 dev %[1]s
				route add %[4]s dev %[1]s scope link
				route add default via %[4]s dev %[1]s
				-6 route add default via %[5]s dev %[1]s`, e.IfName, pod4, pod6, CalicoGateway4, CalicoGateway6))
		})
		if err != nil {
			return nil, err
		}
		return e.Interfaces(result, host)
	}
}
