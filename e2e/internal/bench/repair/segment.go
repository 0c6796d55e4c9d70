// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/pkg/netns"
)

const (
	bridgeLink = "br0"
	routerLink = "router" // the link beside the bridge that holds the gateways' addresses
	// linkGroup has all links that are made here, so that one request removes them.
	linkGroup = 9720
)

// gateways are those of every pod, with the length of their network's prefix.
func gateways() [2]net.IPNet {
	return [...]net.IPNet{
		{IP: net.IPv4(10, 89, 0, 1).To4(), Mask: net.CIDRMask(16, 32)},
		{IP: net.ParseIP("fd89::1"), Mask: net.CIDRMask(64, 128)},
	}
}

// segment is a bridge with pods. It serves one goroutine.
type segment struct {
	folder string // of the namespaces' files
	self   *netns.NS
	links  *netlink.Handle
	router netlink.Link
	pods   []*pod
}

// pod is a namespace with a link to the bridge.
type pod struct {
	*rig.Space
	name  string
	index int
}

// newSegment makes a bridge with so many pods.
func newSegment(folder string, pods int) (_ *segment, err error) {
	s := &segment{folder: folder}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.self, err = netns.Self(); err != nil {
		return nil, err
	}
	if s.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of namespaces: %w", err)
	}
	bridge, err := s.furnish()
	if err != nil {
		return nil, err
	}
	for number := range pods {
		if err := s.add(number, bridge); err != nil {
			return nil, fmt.Errorf("add pod %d: %w", number, err)
		}
	}
	// Last, or every pod's first words would go to all that are there.
	if err := s.links.LinkSetUp(bridge); err != nil {
		return nil, fmt.Errorf("set the bridge up: %w", err)
	}
	return s, nil
}

// furnish makes the bridge and the gateways' link.
func (s *segment) furnish() (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group = bridgeLink, linkGroup
	if err := s.links.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return nil, fmt.Errorf("add the bridge: %w", err)
	}
	bridge, err := s.links.LinkByName(bridgeLink)
	if err != nil {
		return nil, fmt.Errorf("find the bridge: %w", err)
	}
	attrs = netlink.NewLinkAttrs()
	attrs.Name, attrs.Group, attrs.MasterIndex = "to-"+routerLink, linkGroup, bridge.Attrs().Index
	veth := netlink.NewVeth(attrs)
	veth.PeerName = routerLink
	if err := s.links.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("add the gateways' link: %w", err)
	}
	if s.router, err = s.links.LinkByName(routerLink); err != nil {
		return nil, fmt.Errorf("find the gateways' link: %w", err)
	}
	errs := []error{s.links.LinkSetUp(veth), s.links.LinkSetUp(s.router)}
	for _, gateway := range gateways() {
		errs = append(errs, s.links.AddrAdd(s.router, &netlink.Addr{IPNet: &gateway, Flags: unix.IFA_F_NODAD}))
	}
	return bridge, errors.Join(errs...)
}

// add makes a pod.
func (s *segment) add(number int, bridge netlink.Link) error {
	name := fmt.Sprintf("pod%d", number)
	own, err := rig.NewSpace(s.self, filepath.Join(s.folder, name))
	if err != nil {
		return err
	}
	p := &pod{Space: own, name: name}
	s.pods = append(s.pods, p)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group, attrs.MasterIndex = fmt.Sprintf("port%d", number), linkGroup, bridge.Attrs().Index
	veth := p.Veth(attrs)
	if err := s.links.LinkAdd(veth); err != nil {
		return fmt.Errorf("add %s: %w", attrs.Name, err)
	}
	eth0, err := p.Link()
	if err != nil {
		return err
	}
	p.index = eth0.Attrs().Index
	var families []rig.Family
	for i, ip := range []net.IP{net.IPv4(10, 89, byte(1+number>>8), byte(number)).To4(), net.ParseIP(fmt.Sprintf("fd89::1:%x", number))} {
		gateway := gateways()[i]
		families = append(families, rig.Family{Own: net.IPNet{IP: ip, Mask: gateway.Mask}, Gateway: gateway.IP})
	}
	return errors.Join(s.links.LinkSetUp(veth), rig.Furnish(p.Links, eth0, families...))
}

// move gives the gateways another address.
func (s *segment) move(address net.HardwareAddr) error {
	if err := s.links.LinkSetHardwareAddr(s.router, address); err != nil {
		return fmt.Errorf("change the gateways' address: %w", err)
	}
	return nil
}

// check reads every pod's table and says what is wrong, if any pod has another permanent entry than the two of the gateways with that address.
func (s *segment) check(address net.HardwareAddr) error {
	for _, p := range s.pods {
		list, err := p.Links.NeighList(p.index, unix.AF_UNSPEC)
		if err != nil {
			return fmt.Errorf("list the neighbors of %s: %w", p.name, err)
		}
		right := 0
		for _, n := range list {
			of := false
			for _, gateway := range gateways() {
				of = of || n.IP.Equal(gateway.IP)
			}
			switch {
			case of && n.State == unix.NUD_PERMANENT && n.HardwareAddr.String() == address.String():
				right++
			case of, n.State == unix.NUD_PERMANENT:
				return fmt.Errorf("look at the entry for %s in %s: it is %#x with %s, not permanent with %s", n.IP, p.name, n.State, n.HardwareAddr, address)
			}
		}
		if right != len(gateways()) {
			return fmt.Errorf("look for the gateways in %s: %d pinned with %s of %d entries", p.name, right, address, len(list))
		}
	}
	return nil
}

// Close removes all that was made.
func (s *segment) Close() error {
	var errs []error
	if s.links != nil {
		s.links.Close()
		errs = append(errs, rig.RemoveLinks(s.self, linkGroup))
	}
	for _, p := range s.pods {
		errs = append(errs, p.Remove())
	}
	if s.self != nil {
		errs = append(errs, s.self.Close())
	}
	return errors.Join(errs...)
}
