// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/pkg/netns"
)

// What every pod's network looks like: as Calico makes it, the gateway is an address that no link has.
const (
	podLink  = "eth0"
	gateway4 = "169.254.1.1"
	gateway6 = "fd00:169::1"
)

// makers make namespaces at once. The kernel makes links one after the other.
const makers = 2

// cluster is a node's namespace and those of its pods.
type cluster struct {
	node   *netns.NS
	folder string // a tmpfs with a file for each pod's namespace
	pods   []*pod
}

// pod is one network namespace.
type pod struct {
	number int
	path   string
	lladdr net.HardwareAddr // of the host's end, which is what is true of both gateways
}

// newCluster makes a namespace for a node, and the folder in which its pods' are.
func newCluster(folder string) (_ *cluster, err error) {
	c := &cluster{folder: filepath.Join(folder, "netns")}
	own := filepath.Join(folder, "node")
	self, err := netns.Self()
	if err != nil {
		return nil, err
	}
	defer self.Close()
	if err := os.MkdirAll(c.folder, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of namespaces: %w", err)
	}
	if err := unix.Mount("tmpfs", c.folder, "tmpfs", 0, ""); err != nil {
		return nil, fmt.Errorf("mount a tmpfs for namespaces: %w", err)
	}
	if err := self.Do(func() error {
		if err := enterNew(own); err != nil {
			return err
		}
		loopback, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find the loopback: %w", err)
		}
		return netlink.LinkSetUp(loopback)
	}); err != nil {
		return nil, errors.Join(err, c.remove())
	}
	if c.node, err = netns.Open(own); err != nil {
		return nil, errors.Join(err, c.remove())
	}
	// From here on the namespace lives as long as it is open.
	return c, errors.Join(unix.Unmount(own, unix.MNT_DETACH), os.Remove(own))
}

// enterNew puts the calling thread into a new namespace, mounted at a path. Its links get no addresses of their own and
// send nothing, of which ten thousand would be heard.
func enterNew(path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("make the namespace's file: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount the namespace at %s: %w", path, err)
	}
	const none = "1" // IN6_ADDR_GEN_MODE_NONE
	return os.WriteFile("/proc/sys/net/ipv6/conf/default/addr_gen_mode", []byte(none), 0o644)
}

// grow makes pods until there are that many.
func (c *cluster) grow(ctx context.Context, count int) error {
	first := len(c.pods)
	pods := make([]*pod, max(0, count-first))
	var next atomic.Int64
	errs := make([]error, makers)
	var all sync.WaitGroup
	for i := range makers {
		all.Go(func() {
			errs[i] = c.node.Do(func() error {
				outside, err := netlink.NewHandle(unix.NETLINK_ROUTE)
				if err != nil {
					return fmt.Errorf("open a netlink socket: %w", err)
				}
				defer outside.Close()
				for ctx.Err() == nil {
					at := int(next.Add(1)) - 1
					if at >= len(pods) {
						return nil
					}
					p, err := c.newPod(outside, first+at)
					if err != nil {
						return fmt.Errorf("make pod %d: %w", first+at, err)
					}
					pods[at] = p
				}
				return ctx.Err()
			})
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	c.pods = append(c.pods, pods...)
	return nil
}

// newPod makes one; the calling thread is in its namespace afterwards.
func (c *cluster) newPod(outside *netlink.Handle, number int) (*pod, error) {
	p := &pod{
		number: number, path: filepath.Join(c.folder, fmt.Sprintf("cni-6e0f2c7a-8b1d-4f2e-9c3a-%012d", number)),
		lladdr: net.HardwareAddr{2, 0x9e, 0, byte(number >> 16), byte(number >> 8), byte(number)},
	}
	if err := enterNew(p.path); err != nil {
		return nil, err
	}
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	defer links.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = podLink
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace, veth.PeerHardwareAddr = fmt.Sprintf("pod%d", number), netlink.NsFd(c.node.FD()), p.lladdr
	if err := links.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("add veth: %w", err)
	}
	link, err := links.LinkByName(podLink)
	if err != nil {
		return nil, fmt.Errorf("find the pod's link: %w", err)
	}
	other := netlink.NewLinkAttrs()
	other.Index = link.Attrs().ParentIndex
	if err := errors.Join(links.LinkSetUp(link), outside.LinkSetUp(&netlink.Device{LinkAttrs: other})); err != nil {
		return nil, fmt.Errorf("set the pod's link up: %w", err)
	}
	for _, family := range []struct{ own, gateway net.IP }{
		{net.IPv4(10, byte(100+number>>16), byte(number>>8), byte(number)).To4(), net.ParseIP(gateway4).To4()},
		{net.ParseIP(fmt.Sprintf("fd00:97::%x", number+1)), net.ParseIP(gateway6)},
	} {
		address := &netlink.Addr{IPNet: netlink.NewIPNet(family.own), Flags: unix.IFA_F_NODAD}
		direct := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: netlink.NewIPNet(family.gateway), Scope: netlink.SCOPE_LINK}
		if err := errors.Join(links.AddrAdd(link, address), links.RouteAdd(direct),
			links.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: family.gateway})); err != nil {
			return nil, fmt.Errorf("give the pod an address and routes: %w", err)
		}
	}
	return p, nil
}

// teardown bounds the removal of ten thousand namespaces, which the kernel does in its own time.
const teardown = time.Minute

// remove takes all of it away, and returns when the kernel has: what comes next is not to meet that work.
func (c *cluster) remove() error {
	err := errors.Join(unix.Unmount(c.folder, unix.MNT_DETACH), os.RemoveAll(filepath.Dir(c.folder)))
	if c.node == nil {
		return err
	}
	err = errors.Join(err, await.Within(context.Background(), teardown, "the namespaces to be gone", func() error {
		return c.node.Do(func() error {
			handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
			if err != nil {
				return fmt.Errorf("open a netlink socket: %w", err)
			}
			defer handle.Close()
			links, err := handle.LinkList()
			if err == nil && len(links) > 1 {
				err = fmt.Errorf("%d links are left", len(links)-1)
			}
			return err
		})
	}))
	return errors.Join(err, c.node.Close())
}
