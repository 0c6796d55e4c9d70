// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	current "github.com/containernetworking/cni/pkg/types/100"
)

// Azure's constants: gateways, which nobody has, and the MAC of every host's end.
const (
	AzureGateway4     = "169.254.1.1"
	AzureVLANGateway4 = "169.254.2.1"
	AzureGateway6     = "fe80::1234:5678:9abc"
	AzureMAC          = "aa:aa:aa:aa:aa:aa"
)

// azureTransparent is Azure CNI's transparent mode (network/transparent_endpointclient_linux.go): the CNI adds an entry for either
// gateway, the IPv6 one permanent, the IPv4 one in a state that the kernel leaves at once, NUD_PROBE. On the host's end the kernel
// answers for IPv4 (proxy_arp), for IPv6 nobody does.
func azureTransparent(e *Env) (*current.Result, error) {
	result, err := e.Addresses()
	if err != nil {
		return nil, err
	}
	pod4, pod6 := single(result, AzureGateway4, AzureGateway6)
	mac, err := net.ParseMAC(AzureMAC)
	if err != nil {
		return nil, err
	}
	host, err := e.Veth(VethOptions{HostMAC: mac})
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		Sysctl("ipv4/conf/"+e.HostLink+"/proxy_arp", "1"),
		Sysctl("ipv4/conf/"+e.HostLink+"/forwarding", "1"), // without which there is no proxy
		e.routeToPod(pod4, pod6))
	if err != nil {
		return nil, err
	}
	if err := e.Inside(func() error { return azurePod(e.IfName, pod4, pod6, AzureGateway4) }); err != nil {
		return nil, err
	}
	return e.Interfaces(result, host)
}

// azurePod is the pod's side of both modes.
func azurePod(ifName string, pod4, pod6 net.IP, gateway4 string) error {
	return ip(fmt.Sprintf(`
		address add %[2]s/32 dev %[1]s
		-6 address add %[3]s/128 dev %[1]s nodad
		route add %[4]s dev %[1]s scope link
		route add default via %[4]s dev %[1]s
		-6 route add %[5]s dev %[1]s
		-6 route add default via %[5]s dev %[1]s
		-6 neigh add %[5]s dev %[1]s lladdr %[6]s nud permanent
		neigh add %[4]s dev %[1]s lladdr %[6]s nud probe`, ifName, pod4, pod6, gateway4, AzureGateway6, AzureMAC))
}

// AzureVLAN are the parameters of pods in the namespace azure-transparent-vlan.
type AzureVLAN struct {
	// VNet is the name of the virtual network's namespace below /run/netns. It is there before the pod.
	VNet string
}

// azureTransparentVLAN is Azure CNI's transparent-vlan mode (network/transparent_vlan_endpointclient_linux.go): the host's end is not in the
// node's namespace but in that of a virtual network, which a VLAN link connects with the outside; here a veth to the node does.
//
// The node gets a decoy: a link with the same index as the host's end has there, with another MAC.
func azureTransparentVLAN(e *Env) (*current.Result, error) {
	var parameters AzureVLAN
	if err := e.Parameters(&parameters); err != nil {
		return nil, err
	}
	result, err := e.Addresses()
	if err != nil {
		return nil, err
	}
	pod4, pod6 := single(result, AzureVLANGateway4, AzureGateway6)
	decoy, up := "decoy"+e.HostLink[4:], "up"+e.HostLink[4:]
	// High, since the kernel counts up from 1 in every namespace.
	index := 1_000_000 + int(binary.BigEndian.Uint16(e.MAC()[4:]))
	if err := ip(fmt.Sprintf(`
		link add index %[4]d name %[1]s type veth peer name %[2]s netns %[3]s
		link set %[1]s up
		address add 192.0.2.1/31 dev %[1]s`, decoy, up, parameters.VNet, index)); err != nil {
		return nil, err
	}
	vnet := filepath.Join("/run/netns", parameters.VNet)
	err = Inside(vnet, func() error {
		return errors.Join(Sysctl("ipv4/ip_forward", "1"), Sysctl("ipv6/conf/all/forwarding", "1"), ip(fmt.Sprintf(`
			link set lo up
			link add index %[1]d name %[2]s address %[3]s type veth peer name %[4]s netns %[5]s
			link set %[2]s up
			route add %[6]s dev %[2]s scope link
			-6 route add %[7]s dev %[2]s
			link set %[8]s up
			address add 192.0.2.0/31 dev %[8]s
			route add default via 192.0.2.1
			-6 address add fe80::2/64 dev %[8]s nodad
			-6 route add default via fe80::1 dev %[8]s`, index, e.HostLink, AzureMAC, e.IfName, filepath.Base(e.NetNS), pod4, pod6, up)))
	})
	if err != nil {
		return nil, err
	}
	err = ip(fmt.Sprintf(`
		-6 address add fe80::1/64 dev %[1]s nodad
		route add %[2]s via 192.0.2.0 dev %[1]s
		-6 route add %[3]s via fe80::2 dev %[1]s`, decoy, pod4, pod6))
	if err != nil {
		return nil, err
	}
	err = e.Inside(func() error {
		if _, err := linkUp(e.IfName); err != nil {
			return err
		}
		return azurePod(e.IfName, pod4, pod6, AzureVLANGateway4)
	})
	if err != nil {
		return nil, err
	}
	return e.Interfaces(result, nil)
}

// azureVLANDel also removes the link to the virtual network. The pod's goes with the pod.
func azureVLANDel(e *Env) error {
	return errors.Join(delegated("host-local")(e), removeLink("decoy"+e.HostLink[4:]))
}
