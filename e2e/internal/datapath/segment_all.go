// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
)

// SegmentLink is the node's link to the segment that pods of these datapaths share with others: a bridge, or for macvlan a link
// whose other end is somewhere else. The test makes it, decides who holds the gateways' addresses there, and takes it away.
const SegmentLink = "segment0"

// SegmentVLAN is the VLAN of pods on a bridge that keeps VLANs apart.
const SegmentVLAN = 100

// podBridge is the bridge inside the pod, under KubeVirt's name for it.
const podBridge = "k6t-eth0"

// segments are networks in which the pod shares a segment with others: bridges and macvlan.
func segments() []Datapath {
	return []Datapath{
		// A veth whose other end is a port of the bridge, which keeps the address that its ports give it, as kubenet's did.
		{Name: "bridge", Add: bridgePort},
		// The same by CNI's own plugin. The bridge is made by it, too, when the first pod comes, and gets a MAC that stays.
		{Name: "bridge-cni", Add: afterWithoutDAD(delegate("bridge", map[string]any{"bridge": SegmentLink, "isGateway": true})), Del: delegated("bridge")},
		// The same where the bridge keeps VLANs apart: the gateways' addresses are on a veth of the node, segment0.100, whose other end
		// is a port. Not every kernel's bridges can.
		{Name: "bridge-vlan", Add: afterWithoutDAD(delegate("bridge", map[string]any{"bridge": SegmentLink, "isGateway": true, "vlan": SegmentVLAN})),
			Del: delegated("bridge")},
		// CNI's own plugin over the link of the segment.
		{Name: "macvlan", Add: afterWithoutDAD(delegate("macvlan", map[string]any{"master": SegmentLink})), Del: delegated("macvlan")},
		// As KubeVirt has it in a pod with a virtual machine: addresses and routes are on a bridge in the pod, and eth0 is its port.
		{Name: "pod-bridge", Add: bridgeInPod},
		// As where eth0 is a VLAN of the pod's own: a link upon a link that is the veth. This is a macvlan, which more kernels have.
		{Name: "pod-upper", Add: upperInPod},
	}
}

func delegate(plugin string, over map[string]any) func(*Env) (*current.Result, error) {
	return func(e *Env) (*current.Result, error) { return e.Delegate(plugin, over) }
}

func afterWithoutDAD(add func(*Env) (*current.Result, error)) func(*Env) (*current.Result, error) {
	return func(e *Env) (*current.Result, error) {
		if err := e.WithoutDAD(); err != nil {
			return nil, err
		}
		return add(e)
	}
}

// bridgePort plugs the pod into the segment's bridge.
func bridgePort(e *Env) (*current.Result, error) {
	return e.onSegment(func() (string, error) { return e.IfName, nil })
}

// bridgeInPod plugs the pod into the segment's bridge and makes a bridge in the pod of which eth0 is a port.
func bridgeInPod(e *Env) (*current.Result, error) {
	return e.onSegment(func() (string, error) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = podBridge
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return "", fmt.Errorf("make bridge %s: %w", podBridge, err)
		}
		if _, err := linkUp(podBridge); err != nil {
			return "", err
		}
		return podBridge, enslave(e.IfName, podBridge)
	})
}

// upperInPod plugs the pod into the segment's bridge by a link of another name, and puts eth0 upon that.
func upperInPod(e *Env) (*current.Result, error) {
	return e.onSegment(func() (string, error) {
		lower, err := netlink.LinkByName(e.IfName)
		if err != nil {
			return "", fmt.Errorf("find %s: %w", e.IfName, err)
		}
		const trunk = "trunk0"
		if err := netlink.LinkSetDown(lower); err != nil {
			return "", fmt.Errorf("set %s down: %w", e.IfName, err)
		}
		if err := netlink.LinkSetName(lower, trunk); err != nil {
			return "", fmt.Errorf("rename %s: %w", e.IfName, err)
		}
		if _, err := linkUp(trunk); err != nil {
			return "", err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = e.IfName, lower.Attrs().Index
		if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PRIVATE}); err != nil {
			return "", fmt.Errorf("make %s upon %s: %w", e.IfName, trunk, err)
		}
		_, err = linkUp(e.IfName)
		return e.IfName, err
	})
}

// onSegment makes a veth whose host's end is a port of the segment's bridge. inside, which runs in the pod, names the link there that
// is to have addresses and routes.
func (e *Env) onSegment(inside func() (string, error)) (*current.Result, error) {
	if err := e.WithoutDAD(); err != nil {
		return nil, err
	}
	host, err := e.Veth(VethOptions{})
	if err != nil {
		return nil, err
	}
	if err := enslave(e.HostLink, SegmentLink); err != nil {
		return nil, err
	}
	result, err := e.Addresses()
	if err != nil {
		return nil, err
	}
	err = e.Inside(func() error {
		name, err := inside()
		if err != nil {
			return err
		}
		return addressesOn(name, result)
	})
	if err != nil {
		return nil, err
	}
	return e.Interfaces(result, host)
}

func enslave(name, master string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	m, err := netlink.LinkByName(master)
	if err != nil {
		return fmt.Errorf("find %s: %w", master, err)
	}
	if err := netlink.LinkSetMaster(link, m); err != nil {
		return fmt.Errorf("make %s a port of %s: %w", name, master, err)
	}
	return nil
}

// addressesOn gives a link of the calling thread's namespace the addresses of a result and routes by way of its gateways.
func addressesOn(name string, result *current.Result) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	for _, ip := range result.IPs {
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &ip.Address}); err != nil {
			return fmt.Errorf("add %s to %s: %w", &ip.Address, name, err)
		}
		zero := &net.IPNet{IP: make(net.IP, len(ip.Address.Mask)), Mask: make(net.IPMask, len(ip.Address.Mask))}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: zero, Gw: ip.Gateway}); err != nil {
			return fmt.Errorf("add the default route by way of %s: %w", ip.Gateway, err)
		}
	}
	return nil
}
