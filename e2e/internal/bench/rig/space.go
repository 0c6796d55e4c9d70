// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	handle "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/netns"
)

// PodLink is the link of every pod.
const PodLink = "eth0"

// Space is a pod's network namespace, mounted at a file.
type Space struct {
	Path  string
	NS    *netns.NS
	Links *netlink.Handle // asks in the namespace
}

// Enter puts the calling thread into a new namespace that it mounts at a path, where it makes a file.
func Enter(path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("make the namespace's file: %w", err)
	}
	err := unix.Unshare(unix.CLONE_NEWNET)
	if err == nil {
		err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make network namespace %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// NewSpace makes one; self is the namespace of this process. IPv6 looks neither for duplicate addresses nor for routers on links
// that come there later, so that nothing is sent on its own but for link-local addresses' sake.
func NewSpace(self *netns.NS, path string) (_ *Space, err error) {
	s := &Space{Path: path}
	// Do brings its thread back.
	if err := self.Do(func() error {
		if err := Enter(path); err != nil {
			return err
		}
		return errors.Join(Set("default/accept_dad", "0"), Set("default/router_solicitations", "0"))
	}); err != nil {
		return nil, err
	}
	if s.NS, err = netns.Open(path); err == nil {
		s.Links, err = netlink.NewHandleAt(handle.NsHandle(s.NS.FD()), unix.NETLINK_ROUTE)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open network namespace %s: %w", path, err), s.Remove())
	}
	return s, nil
}

// Set writes one of IPv6's settings in the calling thread's namespace, by its name below conf.
func Set(setting, value string) error {
	return os.WriteFile("/proc/sys/net/ipv6/conf/"+setting, []byte(value), 0o644)
}

// Veth is a link between the namespace and that of whoever adds it, where it has the name of the attributes.
func (s *Space) Veth(attrs netlink.LinkAttrs) *netlink.Veth {
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = PodLink, netlink.NsFd(s.NS.FD())
	return veth
}

// Link is the pod's.
func (s *Space) Link() (netlink.Link, error) {
	link, err := s.Links.LinkByName(PodLink)
	if err != nil {
		return nil, fmt.Errorf("find the link of %s: %w", s.Path, err)
	}
	return link, nil
}

// Remove takes it away. Its links go with it, unless somebody else has it open.
func (s *Space) Remove() error {
	var errs []error
	if s.Links != nil {
		s.Links.Close()
	}
	if s.NS != nil {
		errs = append(errs, s.NS.Close())
	}
	errs = append(errs, unix.Unmount(s.Path, unix.MNT_DETACH), os.Remove(s.Path))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove %s: %w", s.Path, err)
	}
	return nil
}

// Family is what a pod has of IPv4 or of IPv6.
type Family struct {
	Own     net.IPNet
	Gateway net.IP
	Direct  bool // a route of its own leads to the gateway, which is outside the pod's network
}

// Single is a family with an address and a gateway that have no network in common.
func Single(own, gateway net.IP) Family {
	if v4 := own.To4(); v4 != nil {
		own, gateway = v4, gateway.To4()
	}
	return Family{Own: *netlink.NewIPNet(own), Gateway: gateway, Direct: true}
}

// Furnish sets a pod's link up and gives it addresses and a way out, as a CNI plugin does.
func Furnish(links *netlink.Handle, link netlink.Link, families ...Family) error {
	index := link.Attrs().Index
	errs := []error{links.LinkSetUp(link)}
	for _, f := range families {
		errs = append(errs, links.AddrAdd(link, &netlink.Addr{IPNet: &f.Own, Flags: unix.IFA_F_NODAD}))
		if f.Direct {
			errs = append(errs, links.RouteAdd(&netlink.Route{LinkIndex: index, Dst: netlink.NewIPNet(f.Gateway), Scope: netlink.SCOPE_LINK}))
		}
		errs = append(errs, links.RouteAdd(&netlink.Route{LinkIndex: index, Gw: f.Gateway}))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("give a pod its addresses and routes: %w", err)
	}
	return nil
}

// RemoveLinks removes all links of a group in this process's namespace by one request: each by itself takes the kernel milliseconds. There may be none.
func RemoveLinks(self *netns.NS, group uint32) error {
	return self.Do(func() error {
		request := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
		request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		request.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
		if _, err := request.Execute(unix.NETLINK_ROUTE, 0); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove all links of group %d: %w", group, err)
		}
		return nil
	})
}
