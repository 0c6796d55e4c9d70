// SPDX-License-Identifier: Apache-2.0

package podstart

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	handle "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/netns"
)

// PodLink is the link of every pod.
const PodLink = "eth0"

// What every pod's network looks like.
const (
	podLink  = PodLink
	folder   = "/run/neighpin-bench"
	gateway4 = "10.97.0.1"
	gateway6 = "fd97::1"
)

// Bed makes pods in the namespace of this process. It serves one goroutine.
type Bed struct {
	self  *netns.NS
	links *netlink.Handle
	made  int
}

// NewBed readies the namespace of this process, which has to be an enclosure's.
func NewBed() (*Bed, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of namespaces: %w", err)
	}
	self, err := netns.Self()
	if err != nil {
		return nil, err
	}
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		self.Close()
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	return &Bed{self: self, links: links}, nil
}

// Close lets go of the namespace.
func (b *Bed) Close() error {
	b.links.Close()
	return b.self.Close()
}

// Pod is a network namespace that nobody has used yet.
type Pod struct {
	Path  string
	bed   *Bed
	ns    *netns.NS
	inner *netlink.Handle // of the namespace
	index int             // of its link
	host  netlink.Link    // the other end
}

// NewPod makes one.
func (b *Bed) NewPod() (*Pod, error) {
	return b.NewPodAt(filepath.Join(folder, fmt.Sprintf("pod-%d", b.made+1)))
}

// NewPodAt makes one whose namespace is mounted at that path, in a folder that is there.
func (b *Bed) NewPodAt(path string) (_ *Pod, err error) {
	b.made++
	p := &Pod{bed: b, Path: path}
	if err := os.WriteFile(p.Path, nil, 0o600); err != nil {
		return nil, fmt.Errorf("make the namespace's file: %w", err)
	}
	// Do brings its thread back.
	err = b.self.Do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", p.Path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return nil, fmt.Errorf("make network namespace %s: %w", p.Path, err)
	}
	if p.ns, err = netns.Open(p.Path); err == nil {
		p.inner, err = netlink.NewHandleAt(handle.NsHandle(p.ns.FD()), unix.NETLINK_ROUTE)
	}
	if err == nil {
		err = p.furnish(b.made)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("furnish %s: %w", p.Path, err), p.Remove())
	}
	return p, nil
}

// furnish gives the pod a veth, addresses and routes. Nothing is sent on its own: no search for duplicate addresses or routers.
func (p *Pod) furnish(number int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("pod%d", number)
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = podLink, netlink.NsFd(p.ns.FD())
	if err := p.bed.links.LinkAdd(veth); err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	if err := p.ns.Do(func() error {
		conf := "/proc/sys/net/ipv6/conf/" + podLink + "/"
		return errors.Join(os.WriteFile(conf+"accept_dad", []byte("0"), 0o644), os.WriteFile(conf+"router_solicitations", []byte("0"), 0o644))
	}); err != nil {
		return fmt.Errorf("quiet the pod: %w", err)
	}
	var err error
	if p.host, err = p.bed.links.LinkByName(attrs.Name); err != nil {
		return fmt.Errorf("find the host's end: %w", err)
	}
	eth0, err := p.inner.LinkByName(podLink)
	if err != nil {
		return fmt.Errorf("find the pod's end: %w", err)
	}
	p.index = eth0.Attrs().Index
	pod4, pod6 := net.IPv4(10, 97, byte(1+number>>8), byte(number)), net.ParseIP(fmt.Sprintf("fd97::1:%x", number))
	return errors.Join(
		address(p.bed.links, p.host, gateway4, 32), address(p.bed.links, p.host, gateway6, 128),
		p.bed.links.LinkSetUp(p.host), p.inner.LinkSetUp(eth0),
		address(p.inner, eth0, pod4.String(), 32), address(p.inner, eth0, pod6.String(), 128),
		direct(p.bed.links, p.host.Attrs().Index, pod4, pod6), direct(p.inner, p.index, net.ParseIP(gateway4).To4(), net.ParseIP(gateway6)),
		p.inner.RouteAdd(&netlink.Route{LinkIndex: p.index, Gw: net.ParseIP(gateway4).To4()}),
		p.inner.RouteAdd(&netlink.Route{LinkIndex: p.index, Gw: net.ParseIP(gateway6)}),
	)
}

func address(h *netlink.Handle, link netlink.Link, ip string, bits int) error {
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(ip), Mask: net.CIDRMask(bits, bits)}, Flags: unix.IFA_F_NODAD}
	if err := h.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add address %s: %w", ip, err)
	}
	return nil
}

// direct adds routes to single addresses that are on the link itself.
func direct(h *netlink.Handle, index int, ips ...net.IP) error {
	for _, ip := range ips {
		dst := netlink.NewIPNet(ip)
		if err := h.RouteAdd(&netlink.Route{LinkIndex: index, Dst: dst, Scope: netlink.SCOPE_LINK}); err != nil {
			return fmt.Errorf("add route to %s: %w", ip, err)
		}
	}
	return nil
}

// Check says what is wrong with the pod's entries, if it is pinned otherwise than it should be.
func (p *Pod) Check() error {
	list, err := p.inner.NeighList(p.index, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("list the pod's neighbors: %w", err)
	}
	pinned := 0
	for _, n := range list {
		if n.IP.String() != gateway4 && n.IP.String() != gateway6 {
			continue
		}
		if n.State != unix.NUD_PERMANENT || !bytes.Equal(n.HardwareAddr, p.host.Attrs().HardwareAddr) {
			return fmt.Errorf("look at the entry for %s: it is %#x with %s, not permanent with %s", n.IP, n.State, n.HardwareAddr, p.host.Attrs().HardwareAddr)
		}
		pinned++
	}
	if pinned != 2 {
		return fmt.Errorf("look for both gateways: %d pinned of %d entries", pinned, len(list))
	}
	return nil
}

// clear removes the pod's entries.
func (p *Pod) clear() error {
	list, err := p.inner.NeighList(p.index, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("list the pod's neighbors: %w", err)
	}
	for _, n := range list {
		if n.State != unix.NUD_PERMANENT {
			continue
		}
		if err := p.inner.NeighDel(&n); err != nil {
			return fmt.Errorf("remove the entry for %s: %w", n.IP, err)
		}
	}
	return nil
}

// Remove takes the pod away, whatever there is of it.
func (p *Pod) Remove() error {
	var errs []error
	if p.host != nil {
		errs = append(errs, p.bed.links.LinkDel(p.host))
	}
	if p.inner != nil {
		p.inner.Close()
	}
	if p.ns != nil {
		errs = append(errs, p.ns.Close())
	}
	errs = append(errs, unix.Unmount(p.Path, unix.MNT_DETACH), os.Remove(p.Path))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove %s: %w", p.Path, err)
	}
	return nil
}
