// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

// SecondHostLink is the host's end of the second link of pods in the namespace routes, eth1 in the pod. It has the addresses
// 10.98.0.1 and fd98::1, the pod's end 10.98.0.2 and fd98::2.
const SecondHostLink = "second0"

// Routes are the parameters of pods in the namespace routes.
type Routes struct {
	// Commands of iproute2 are run in the pod when both links and ptp's routes are there, a line each.
	Commands string
	// NexthopCompatMode is the pod's net.ipv4.nexthop_compat_mode; the kernel's default, 1, if empty. With 0 the routes in a dump do not
	// have the gateways of their nexthop objects.
	NexthopCompatMode string
}

// routes is ptp with a second link and whatever routes the test wants.
func routes(e *Env) (*current.Result, error) {
	var parameters Routes
	if err := e.Parameters(&parameters); err != nil {
		return nil, err
	}
	result, err := ptp(e)
	if err != nil {
		return nil, err
	}
	second := &Env{NetNS: e.NetNS, IfName: "eth1", HostLink: SecondHostLink}
	if _, err := second.Veth(VethOptions{}); err != nil {
		return nil, err
	}
	err = ip(fmt.Sprintf(`
		address add 10.98.0.1/24 dev %[1]s
		-6 address add fd98::1/64 dev %[1]s nodad`, SecondHostLink))
	if err != nil {
		return nil, err
	}
	return result, e.Inside(func() error {
		if parameters.NexthopCompatMode != "" {
			if err := Sysctl("ipv4/nexthop_compat_mode", parameters.NexthopCompatMode); err != nil {
				return err
			}
		}
		return ip(`
			address add 10.98.0.2/24 dev eth1
			-6 address add fd98::2/64 dev eth1 nodad
			` + parameters.Commands)
	})
}

// routesDel also removes the second link.
func routesDel(e *Env) error {
	return errors.Join(removeLink(SecondHostLink), delegated("ptp")(e))
}

// advertised is ptp without a static route for IPv6: the pod has its gateway from a router advertisement of the node.
func advertised(e *Env) (*current.Result, error) {
	result, err := ptp(e)
	if err != nil {
		return nil, err
	}
	err = e.Inside(func() error {
		return ip(`
			-6 route del default
			-6 route del fd97::/64 via fd97::1`)
	})
	if err != nil {
		return nil, err
	}
	if err := advertise(result.Interfaces[0].Name); err != nil {
		return nil, err
	}
	return result, e.Inside(func() error { return awaitDefault(e.IfName) })
}

// advertise sends a router advertisement of RFC 4861, section 4.2, without options, to whoever is at the other end of a link.
func advertise(hostLink string) error {
	link, err := net.InterfaceByName(hostLink)
	if err != nil {
		return err
	}
	socket, err := (&net.ListenConfig{}).ListenPacket(context.Background(), "ip6:ipv6-icmp", "::")
	if err != nil {
		return fmt.Errorf("open a socket for ICMPv6: %w", err)
	}
	defer socket.Close()
	lifetime := be16(1800) // seconds
	message := []byte{134, 0, 0, 0, 64, 0, lifetime[0], lifetime[1], 0, 0, 0, 0, 0, 0, 0, 0}
	control := &ipv6.ControlMessage{HopLimit: 255, IfIndex: link.Index}
	if _, err := ipv6.NewPacketConn(socket).WriteTo(message, control, &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: hostLink}); err != nil {
		return fmt.Errorf("send a router advertisement: %w", err)
	}
	return nil
}

// awaitDefault waits until a link of the calling thread's namespace has a default route from an advertisement.
func awaitDefault(ifName string) error {
	handle, link, err := openLink(ifName)
	if err != nil {
		return err
	}
	defer handle.Close()
	return await.Within(context.Background(), 30*time.Second, "a default route from an advertisement", func() error {
		routes, err := handle.RouteList(link, netlink.FAMILY_V6)
		for _, route := range routes {
			if route.Protocol == unix.RTPROT_RA && route.Gw != nil {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("the routes are %v", routes))
	})
}
