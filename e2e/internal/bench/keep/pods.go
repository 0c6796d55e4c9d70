// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/pkg/netns"
)

const (
	gateway4 = "10.96.0.1"
	gateway6 = "fd96::1"

	// linkGroup has all links that are made here, so that they go in one request.
	linkGroup = 9717
)

// bed makes namespaces whose links lead to the namespace of this process. It serves one goroutine.
type bed struct {
	folder string
	self   *netns.NS
	links  *netlink.Handle
	made   []*space
}

// space is a network namespace with one veth.
type space struct {
	*rig.Space
	name  string
	outer int // number of the other end
}

func newBed(folder string) (*bed, error) {
	self, err := netns.Self()
	if err != nil {
		return nil, err
	}
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a netlink socket: %w", err), self.Close())
	}
	return &bed{folder: folder, self: self, links: links}, nil
}

// add makes a namespace and its veth.
func (b *bed) add(name string) (*space, error) {
	own, err := rig.NewSpace(b.self, filepath.Join(b.folder, name))
	if err != nil {
		return nil, err
	}
	s := &space{Space: own, name: name}
	b.made = append(b.made, s)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group = name, linkGroup
	if err := b.links.LinkAdd(s.Veth(attrs)); err != nil {
		return nil, fmt.Errorf("add veth %s: %w", name, err)
	}
	outer, err := b.links.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", name, err)
	}
	s.outer = outer.Attrs().Index
	if err := b.links.LinkSetUp(outer); err != nil {
		return nil, fmt.Errorf("set %s up: %w", name, err)
	}
	return s, nil
}

// pod makes a namespace as a CNI plugin leaves it: an address and a gateway of each family.
func (b *bed) pod(number int) (*space, error) {
	s, err := b.add(fmt.Sprintf("pod%d", number))
	if err != nil {
		return nil, err
	}
	link, err := s.Link()
	if err != nil {
		return nil, err
	}
	return s, rig.Furnish(s.Links, link, families(number)...)
}

// families are what a pod has of IPv4 and IPv6.
func families(number int) []rig.Family {
	return []rig.Family{
		rig.Single(net.IPv4(10, 96, byte(1+number>>8), byte(number)), net.ParseIP(gateway4)),
		rig.Single(net.ParseIP(fmt.Sprintf("fd96::1:%x", number)), net.ParseIP(gateway6)),
	}
}

// pinned tells whether both gateways are.
func (s *space) pinned() error {
	list, err := s.Links.NeighList(0, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("list the neighbors of %s: %w", s.Path, err)
	}
	pins := 0
	for _, n := range list {
		if n.State == unix.NUD_PERMANENT {
			pins++
		}
	}
	if pins != 2 {
		return fmt.Errorf("%d of 2 pins are there", pins)
	}
	return nil
}

// take does what gVisor does when it has copied the namespace: it removes the addresses.
func (s *space) take(number int) error {
	link, err := s.Link()
	if err != nil {
		return err
	}
	for _, family := range families(number) {
		if err := s.Links.AddrDel(link, &netlink.Addr{IPNet: &family.Own}); err != nil {
			return fmt.Errorf("take %s of %s: %w", family.Own.IP, s.Path, err)
		}
	}
	return nil
}

// Close removes all that was made.
func (b *bed) Close() error {
	errs := []error{rig.RemoveLinks(b.self, linkGroup)}
	for _, s := range b.made {
		errs = append(errs, s.Remove())
	}
	b.links.Close()
	return errors.Join(append(errs, b.self.Close())...)
}
