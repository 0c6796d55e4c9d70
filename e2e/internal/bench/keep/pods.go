// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/containerd/nri/pkg/api"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/netns"
)

const (
	podLink  = "eth0"
	gateway4 = "10.96.0.1"
	gateway6 = "fd96::1"

	// linkGroup has all links that are made here, so that they go in one request: each by itself takes the kernel milliseconds.
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
	name, path string
	ns         *netns.NS
	outer      int // number of the other end
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
	s := &space{name: name, path: filepath.Join(b.folder, name)}
	if err := os.WriteFile(s.path, nil, 0o600); err != nil {
		return nil, fmt.Errorf("make the namespace's file: %w", err)
	}
	b.made = append(b.made, s)
	// Do brings its thread back.
	err := b.self.Do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", s.path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return nil, fmt.Errorf("make network namespace %s: %w", s.path, err)
	}
	if s.ns, err = netns.Open(s.path); err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group = name, linkGroup
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = podLink, netlink.NsFd(s.ns.FD())
	if err := b.links.LinkAdd(veth); err != nil {
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

// inside calls f with a socket in the namespace and its link.
func (s *space) inside(f func(*netlink.Handle, netlink.Link) error) error {
	return s.ns.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open a netlink socket in %s: %w", s.path, err)
		}
		defer h.Close()
		link, err := h.LinkByName(podLink)
		if err != nil {
			return fmt.Errorf("find the link of %s: %w", s.path, err)
		}
		return f(h, link)
	})
}

// pod makes a namespace as a CNI plugin leaves it: an address and a gateway of each family. Nothing is sent on its own: no search
// for duplicate addresses or routers.
func (b *bed) pod(number int) (*space, error) {
	s, err := b.add(fmt.Sprintf("pod%d", number))
	if err != nil {
		return nil, err
	}
	return s, s.inside(func(h *netlink.Handle, link netlink.Link) error {
		conf := "/proc/sys/net/ipv6/conf/" + podLink + "/"
		errs := []error{os.WriteFile(conf+"accept_dad", []byte("0"), 0o644), os.WriteFile(conf+"router_solicitations", []byte("0"), 0o644), h.LinkSetUp(link)}
		for _, family := range podAddresses(number) {
			errs = append(errs, h.AddrAdd(link, &netlink.Addr{IPNet: netlink.NewIPNet(family.own), Flags: unix.IFA_F_NODAD}),
				h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: netlink.NewIPNet(family.gateway), Scope: netlink.SCOPE_LINK}),
				h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: family.gateway}))
		}
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("furnish %s: %w", s.path, err)
		}
		return nil
	})
}

// pinned tells whether both gateways are.
func (s *space) pinned() error {
	return s.inside(func(h *netlink.Handle, link netlink.Link) error {
		list, err := h.NeighList(link.Attrs().Index, unix.AF_UNSPEC)
		if err != nil {
			return fmt.Errorf("list the neighbors of %s: %w", s.path, err)
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
	})
}

// take does what gVisor does when it has copied the namespace: it removes the addresses.
func (s *space) take(number int) error {
	return s.inside(func(h *netlink.Handle, link netlink.Link) error {
		for _, family := range podAddresses(number) {
			if err := h.AddrDel(link, &netlink.Addr{IPNet: netlink.NewIPNet(family.own)}); err != nil {
				return fmt.Errorf("take %s of %s: %w", family.own, s.path, err)
			}
		}
		return nil
	})
}

type addresses struct{ own, gateway net.IP }

func podAddresses(number int) [2]addresses {
	return [...]addresses{
		{net.IPv4(10, 96, byte(1+number>>8), byte(number)).To4(), net.ParseIP(gateway4).To4()},
		{net.ParseIP(fmt.Sprintf("fd96::1:%x", number)), net.ParseIP(gateway6)},
	}
}

// sandbox is NRI's word for a pod that has the namespace.
func (s *space) sandbox() *api.PodSandbox {
	return &api.PodSandbox{
		Id: s.id(), Name: s.name, Namespace: "shop", Uid: "4c3f7d52-5d0e-4b8e-9a43-" + s.name, RuntimeHandler: "runsc",
		Linux: &api.LinuxPodSandbox{Namespaces: []*api.LinuxNamespace{{Type: "pid"}, {Type: "network", Path: s.path}}},
	}
}

func (s *space) id() string { return "sandbox-of-" + s.name }

// Close removes all that was made.
func (b *bed) Close() error {
	var errs []error
	if len(b.made) > 0 {
		errs = append(errs, b.self.Do(func() error {
			request := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
			request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
			request.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(linkGroup)))
			if _, err := request.Execute(unix.NETLINK_ROUTE, 0); err != nil {
				return fmt.Errorf("remove all links: %w", err)
			}
			return nil
		}))
	}
	for _, s := range b.made {
		if s.ns != nil {
			errs = append(errs, s.ns.Close(), unix.Unmount(s.path, unix.MNT_DETACH))
		}
		errs = append(errs, os.Remove(s.path))
	}
	b.links.Close()
	return errors.Join(append(errs, b.self.Close())...)
}
