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

	"github.com/containerd/nri/pkg/api"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/pkg/netns"
)

// What every pod's network looks like: as Calico makes it, the gateway is an address that no link has.
const (
	gateway4 = "169.254.1.1"
	gateway6 = "fd00:169::1"
)

// makers make namespaces at once. The kernel makes links one after the other.
const makers = 2

// cluster is a node's namespace and those of its pods.
type cluster struct {
	node   *netns.NS
	folder string // a tmpfs with a file for each pod's namespace
	aside  string // another one, where they are made
	hidden []*pod // that are only there
	pods   []*pod
}

// pod is one network namespace.
type pod struct {
	number int
	path   string           // where it is known
	made   string           // where it was made
	lladdr net.HardwareAddr // of the host's end, which is what is true of both gateways
}

// newCluster makes a namespace for a node, and the folder in which its pods' are.
func newCluster(folder string) (_ *cluster, err error) {
	c := &cluster{folder: filepath.Join(folder, "netns"), aside: filepath.Join(folder, "made")}
	own := filepath.Join(folder, "node")
	self, err := netns.Self()
	if err != nil {
		return nil, err
	}
	defer self.Close()
	for _, folder := range []string{c.folder, c.aside} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, fmt.Errorf("make the folder of namespaces: %w", err)
		}
		if err := unix.Mount("tmpfs", folder, "tmpfs", 0, ""); err != nil {
			return nil, fmt.Errorf("mount a tmpfs for namespaces: %w", err)
		}
	}
	if err := self.Do(func() error {
		if err := rig.Enter(own); err != nil {
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

// make makes that many pods, which nobody sees yet. A daemon that runs hears of every namespace, and while somebody does so the kernel
// goes through the numbers of all of them for each of its messages: nine thousand pods took a minute and a half.
func (c *cluster) make(ctx context.Context, count int) error {
	c.hidden = make([]*pod, count)
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
					if at >= count {
						return nil
					}
					p, err := c.newPod(outside, at)
					if err != nil {
						return fmt.Errorf("make pod %d: %w", at, err)
					}
					c.hidden[at] = p
				}
				return ctx.Err()
			})
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// show has pods appear where neighpin looks, as a runtime mounts them there, until there are that many, and returns the new ones.
func (c *cluster) show(count int) (shown []*pod, err error) {
	for _, p := range c.hidden[:count-len(c.pods)] {
		if err := os.WriteFile(p.path, nil, 0o600); err != nil {
			return nil, fmt.Errorf("make the namespace's file: %w", err)
		}
		if err := unix.Mount(p.made, p.path, "", unix.MS_BIND, ""); err != nil {
			return nil, fmt.Errorf("mount the namespace of pod %d: %w", p.number, err)
		}
		if err := unix.Unmount(p.made, unix.MNT_DETACH); err != nil {
			return nil, fmt.Errorf("unmount the namespace of pod %d where it was made: %w", p.number, err)
		}
		c.pods, shown = append(c.pods, p), append(shown, p)
	}
	c.hidden = c.hidden[len(shown):]
	return shown, nil
}

// newPod makes one; the calling thread is in its namespace afterwards.
func (c *cluster) newPod(outside *netlink.Handle, number int) (*pod, error) {
	name := fmt.Sprintf("cni-6e0f2c7a-8b1d-4f2e-9c3a-%012d", number)
	p := &pod{
		number: number, path: filepath.Join(c.folder, name), made: filepath.Join(c.aside, name),
		lladdr: net.HardwareAddr{2, 0x9e, 0, byte(number >> 16), byte(number >> 8), byte(number)},
	}
	if err := rig.Enter(p.made); err != nil {
		return nil, err
	}
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	defer links.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = rig.PodLink
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace, veth.PeerHardwareAddr = fmt.Sprintf("pod%d", number), netlink.NsFd(c.node.FD()), p.lladdr
	if err := links.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("add veth: %w", err)
	}
	link, err := links.LinkByName(rig.PodLink)
	if err != nil {
		return nil, fmt.Errorf("find the pod's link: %w", err)
	}
	other := netlink.NewLinkAttrs()
	other.Index = link.Attrs().ParentIndex
	end := &netlink.Device{LinkAttrs: other}
	// Links get no addresses of their own and send nothing, of which ten thousand would be heard. The setting is told by netlink: the files
	// of all namespaces' settings are in one bucket of the kernel's cache of names (fs/proc/proc_sysctl.c, proc_sys_compare).
	const none = 1 // IN6_ADDR_GEN_MODE_NONE
	if err := errors.Join(links.LinkSetIP6AddrGenMode(link, none), outside.LinkSetIP6AddrGenMode(end, none), outside.LinkSetUp(end)); err != nil {
		return nil, fmt.Errorf("set the host's end up: %w", err)
	}
	return p, rig.Furnish(links, link,
		rig.Single(net.IPv4(10, byte(100+number>>16), byte(number>>8), byte(number)), net.ParseIP(gateway4)),
		rig.Single(net.ParseIP(fmt.Sprintf("fd00:97::%x", number+1)), net.ParseIP(gateway6)))
}

// sandbox is NRI's word for it.
func (p *pod) sandbox() *api.PodSandbox {
	return rig.Sandbox(fmt.Sprintf("%064x", 0x5eed<<40+p.number), p.number, handler, p.path)
}

// teardown bounds the removal of ten thousand namespaces, which the kernel does in its own time.
const teardown = time.Minute

// remove takes all of it away, and returns when the kernel has: what comes next is not to meet that work.
func (c *cluster) remove() error {
	err := errors.Join(unix.Unmount(c.folder, unix.MNT_DETACH), unix.Unmount(c.aside, unix.MNT_DETACH), os.RemoveAll(filepath.Dir(c.folder)))
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
