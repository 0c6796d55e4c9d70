// SPDX-License-Identifier: Apache-2.0

package gain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

const (
	folder = "/run/neighpin-crowd"
)

// crowd are network namespaces behind one gateway, whose two addresses the node holds: on a bridge of which all are ports, or on
// the host's end of each. It serves one goroutine.
type crowd struct {
	self   *netns.NS
	host   *netns.Host
	links  *netlink.Handle
	bridge netlink.Link // nil: none

	network network
	pods    []*member
}

// member is one of them.
type member struct {
	*rig.Space
	end netlink.Link // the host's
}

// gather makes a crowd in the namespace of this process, which has to be an enclosure's, behind the bridge of that name, which has the
// gateways' addresses; without a name each pod has a link of its own to them.
func gather(size int, bridge string, n network) (_ *crowd, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of namespaces: %w", err)
	}
	c := &crowd{network: n}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.disperse())
		}
	}()
	if c.self, err = netns.Self(); err != nil {
		return nil, err
	}
	if c.host, err = netns.NewHost(); err != nil {
		return nil, err
	}
	if c.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	if bridge != "" {
		if c.bridge, err = c.links.LinkByName(bridge); err != nil {
			return nil, fmt.Errorf("find bridge %s: %w", bridge, err)
		}
	}
	for i := range size {
		if err := c.add(i); err != nil {
			return nil, fmt.Errorf("make pod %d of the crowd: %w", i, err)
		}
	}
	return c, nil
}

// disperse takes the crowd away, whatever there is of it.
func (c *crowd) disperse() error {
	var errs []error
	for _, m := range c.pods {
		if m.end != nil {
			errs = append(errs, c.links.LinkDel(m.end))
		}
		errs = append(errs, m.Remove())
	}
	if c.links != nil {
		c.links.Close()
	}
	if c.self != nil {
		errs = append(errs, c.self.Close())
	}
	return errors.Join(errs...)
}

// name is that of a pod and of the host's end of its link.
func (c *crowd) name(i int) string {
	if c.bridge != nil {
		return fmt.Sprintf("port%d", i)
	}
	return fmt.Sprintf("routed%d", i)
}

func (c *crowd) add(i int) error {
	space, err := rig.NewSpace(c.self, filepath.Join(folder, c.name(i)))
	if err != nil {
		return err
	}
	m := &member{Space: space}
	c.pods = append(c.pods, m)
	// No link-local address: nothing is to be sent but for the connections.
	if err := m.NS.Do(func() error { return rig.Set("default/addr_gen_mode", "1") }); err != nil {
		return fmt.Errorf("quiet %s: %w", m.Path, err)
	}
	return c.connect(m, i)
}

// connect gives a pod its link, addresses and routes. The pod's addresses follow the gateways'.
func (c *crowd) connect(m *member, i int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = c.name(i)
	if c.bridge != nil {
		attrs.MasterIndex = c.bridge.Attrs().Index
	}
	if err := c.links.LinkAdd(m.Veth(attrs)); err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	var err error
	if m.end, err = c.links.LinkByName(attrs.Name); err != nil {
		return fmt.Errorf("find the host's end: %w", err)
	}
	inner, err := m.Link()
	if err != nil {
		return err
	}
	errs := []error{c.links.LinkSetUp(m.end)}
	var families []rig.Family
	for _, gateway := range []netip.Addr{c.network.gateway4, c.network.gateway6} {
		family := rig.Single(nth(gateway, i+1).AsSlice(), gateway.AsSlice())
		families = append(families, family)
		if c.bridge == nil {
			errs = append(errs, c.links.AddrAdd(m.end, &netlink.Addr{IPNet: netlink.NewIPNet(family.Gateway), Flags: unix.IFA_F_NODAD}),
				c.links.RouteAdd(&netlink.Route{LinkIndex: m.end.Attrs().Index, Dst: &family.Own, Scope: netlink.SCOPE_LINK}))
		}
	}
	return errors.Join(append(errs, rig.Furnish(m.Links, inner, families...))...)
}

// forget removes every neighbor from the pods and from the host's ends, pinned or learned.
func (c *crowd) forget() error {
	ends := c.ends()
	errs := []error{forgetIn(c.links, func(index int) bool { return ends[index] || c.bridge != nil && index == c.bridge.Attrs().Index })}
	for _, m := range c.pods {
		errs = append(errs, forgetIn(m.Links, func(int) bool { return true }))
	}
	return errors.Join(errs...)
}

// ends are the numbers of the host's ends.
func (c *crowd) ends() map[int]bool {
	ends := map[int]bool{}
	for _, m := range c.pods {
		ends[m.end.Attrs().Index] = true
	}
	return ends
}

// received counts the frames that the host's ends have sent to the pods.
func (c *crowd) received() (frames uint64, err error) {
	links, err := c.links.LinkList()
	if err != nil {
		return 0, fmt.Errorf("read the links' counters: %w", err)
	}
	ends := c.ends()
	for _, l := range links {
		if s := l.Attrs().Statistics; s != nil && ends[l.Attrs().Index] {
			frames += s.TxPackets
		}
	}
	return frames, nil
}

// forgetIn removes the neighbors of some links, and makes sure of it.
func forgetIn(h *netlink.Handle, of func(index int) bool) error {
	for again := false; ; again = true {
		list, err := h.NeighList(0, netlink.FAMILY_ALL)
		if err != nil {
			return fmt.Errorf("list neighbors: %w", err)
		}
		// Those of groups and of the loopback are constants.
		list = slices.DeleteFunc(list, func(n netlink.Neigh) bool { return n.State&unix.NUD_NOARP != 0 || !of(n.LinkIndex) })
		if again && len(list) > 0 {
			return fmt.Errorf("forget neighbors: %d are left, such as %s", len(list), list[0].IP)
		}
		if len(list) == 0 {
			return nil
		}
		for _, n := range list {
			if err := h.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("forget %s: %w", n.IP, err)
			}
		}
	}
}

// nth is the address that comes n after another.
func nth(ip netip.Addr, n int) netip.Addr {
	raw := ip.AsSlice()
	raw[len(raw)-1] += byte(n % 256)
	raw[len(raw)-2] += byte(n / 256)
	next, _ := netip.AddrFromSlice(raw)
	return next
}

// pin does for every pod what neighpin does, by its packages: both gateways are resolved and pinned, and with returnPath the host's
// ends get the pods' addresses.
func (c *crowd) pin(ctx context.Context, returnPath bool) error {
	var addresses []neighbor.Address
	for _, m := range c.pods {
		own, err := c.pinOne(ctx, m)
		if err != nil {
			return fmt.Errorf("pin %s: %w", m.Path, err)
		}
		addresses = append(addresses, own...)
	}
	if !returnPath {
		return nil
	}
	entries, err := hoststate.SetReturnPath(ctx, addresses, nil)
	if err == nil && len(entries) != 2*len(c.pods) {
		err = fmt.Errorf("set the way back: %d entries for %d pods", len(entries), len(c.pods))
	}
	return err
}

func (c *crowd) pinOne(ctx context.Context, m *member) (own []neighbor.Address, err error) {
	ns, err := c.host.Open(m.Path)
	if err != nil {
		return nil, err
	}
	table, err := neighbor.Open(ns)
	ns.Close()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	found, err := table.Resolve(ctx, neighbor.Query{})
	if err != nil {
		return nil, err
	}
	pinned := map[netip.Addr]bool{}
	for _, neighbor := range found.Neighbors {
		pinned[neighbor.Dst] = true
	}
	if !pinned[c.network.gateway4] || !pinned[c.network.gateway6] {
		return nil, fmt.Errorf("resolve both gateways: there are %v, and skipped %v", found.Neighbors, found.Skipped)
	}
	if err := table.Pin(ctx, found.Neighbors); err != nil {
		return nil, err
	}
	return table.Addresses(ctx, 2)
}
