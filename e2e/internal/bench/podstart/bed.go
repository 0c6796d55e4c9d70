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
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/pkg/netns"
)

// What every pod's network looks like.
const (
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
	*rig.Space
	bed   *Bed
	index int          // of its link
	host  netlink.Link // the other end
}

// NewPod makes one.
func (b *Bed) NewPod() (*Pod, error) {
	return b.NewPodAt(filepath.Join(folder, fmt.Sprintf("pod-%d", b.made+1)))
}

// NewPodAt makes one whose namespace is mounted at that path, in a folder that is there.
func (b *Bed) NewPodAt(path string) (_ *Pod, err error) {
	b.made++
	space, err := rig.NewSpace(b.self, path)
	if err != nil {
		return nil, err
	}
	p := &Pod{Space: space, bed: b}
	if err := p.furnish(b.made); err != nil {
		return nil, errors.Join(fmt.Errorf("furnish %s: %w", p.Path, err), p.Remove())
	}
	return p, nil
}

// furnish gives the pod a veth, addresses and routes, and the host's end the gateways' addresses.
func (p *Pod) furnish(number int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("pod%d", number)
	if err := p.bed.links.LinkAdd(p.Veth(attrs)); err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	var err error
	if p.host, err = p.bed.links.LinkByName(attrs.Name); err != nil {
		return fmt.Errorf("find the host's end: %w", err)
	}
	eth0, err := p.Link()
	if err != nil {
		return err
	}
	p.index = eth0.Attrs().Index
	pod4, pod6 := net.IPv4(10, 97, byte(1+number>>8), byte(number)), net.ParseIP(fmt.Sprintf("fd97::1:%x", number))
	gateway4, gateway6 := net.ParseIP(gateway4), net.ParseIP(gateway6)
	return errors.Join(
		address(p.bed.links, p.host, gateway4, 32), address(p.bed.links, p.host, gateway6, 128), p.bed.links.LinkSetUp(p.host),
		rig.Furnish(p.Links, eth0, rig.Single(pod4, gateway4), rig.Single(pod6, gateway6)),
		direct(p.bed.links, p.host.Attrs().Index, pod4, pod6),
	)
}

func address(h *netlink.Handle, link netlink.Link, ip net.IP, bits int) error {
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}, Flags: unix.IFA_F_NODAD}
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
	list, err := p.Links.NeighList(p.index, unix.AF_UNSPEC)
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
	list, err := p.Links.NeighList(p.index, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("list the pod's neighbors: %w", err)
	}
	for _, n := range list {
		if n.State != unix.NUD_PERMANENT {
			continue
		}
		if err := p.Links.NeighDel(&n); err != nil {
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
	return errors.Join(append(errs, p.Space.Remove())...)
}
