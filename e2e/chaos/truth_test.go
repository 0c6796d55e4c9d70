// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// What is true is read here anew, by other code than neighpin's, so that the two can contradict each other.

// own is a path to the namespace of the node. /proc/self/ns/net is none: it is the first thread's, which may be in a pod at the moment.
func own() string { return fmt.Sprintf("/proc/self/fd/%d", bed.network.Fd()) }

var gateways = []netip.Addr{node.Gateway4, node.Gateway6}

// inside hands a connection to the network of the namespace at path to fn.
func inside(path string, fn func(*netlink.Handle) error) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", path, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("connect to namespace %s: %w", path, err)
	}
	defer h.Close()
	return fn(h)
}

// hostEnd finds the other end of a pod's link, on the node.
func hostEnd(p *node.Pod) (netlink.Link, error) {
	var index, other int
	err := inside(p.NetNS, func(h *netlink.Handle) error {
		eth0, err := h.LinkByName("eth0")
		if err != nil {
			return fmt.Errorf("find eth0 of pod %s: %w", p.Name, err)
		}
		index, other = eth0.Attrs().Index, eth0.Attrs().ParentIndex
		return nil
	})
	if err != nil {
		return nil, err
	}
	var end netlink.Link
	err = inside(own(), func(h *netlink.Handle) (err error) {
		end, err = h.LinkByIndex(other)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find the other end of eth0 of pod %s: %w", p.Name, err)
	}
	if end.Attrs().Name != p.HostLink || end.Attrs().ParentIndex != index {
		return nil, fmt.Errorf("link %d of pod %s leads to %s, which leads to %d", index, p.Name, end.Attrs().Name, end.Attrs().ParentIndex)
	}
	return end, nil
}

// truth is what the pod's gateways are at by the node's links and addresses; one that nobody on the node is, is left out.
func truth(p *node.Pod) (map[netip.Addr]string, error) {
	end, err := hostEnd(p)
	if err != nil {
		return nil, err
	}
	held, err := held(end.Attrs().MasterIndex)
	if err != nil {
		return nil, err
	}
	is := map[netip.Addr]string{}
	for _, gateway := range gateways {
		// Without a master whatever the pod sends ends at the other end.
		if end.Attrs().MasterIndex == 0 || slices.Contains(held, gateway) {
			is[gateway] = end.Attrs().HardwareAddr.String()
		}
	}
	return is, nil
}

// held are the addresses of a link of the node.
func held(index int) (held []netip.Addr, err error) {
	if index == 0 {
		return nil, nil
	}
	err = inside(own(), func(h *netlink.Handle) error {
		link, err := h.LinkByIndex(index)
		if err != nil {
			return err
		}
		if name := link.Attrs().Name; name != datapath.SegmentLink {
			return fmt.Errorf("link %d is %s, want %s", index, name, datapath.SegmentLink)
		}
		addresses, err := h.AddrList(link, netlink.FAMILY_ALL)
		for _, a := range addresses {
			ip, _ := netip.AddrFromSlice(a.IP)
			held = append(held, ip.Unmap())
		}
		return err
	})
	return held, err
}

// entries are the permanent entries for gateways in the pod's namespace.
func entries(p *node.Pod) (found map[netip.Addr]string, err error) {
	found = map[netip.Addr]string{}
	err = inside(p.NetNS, func(h *netlink.Handle) error {
		eth0, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		list, err := h.NeighList(eth0.Attrs().Index, netlink.FAMILY_ALL)
		for _, n := range list {
			ip, _ := netip.AddrFromSlice(n.IP)
			if n.State == netlink.NUD_PERMANENT && slices.Contains(gateways, ip.Unmap()) {
				found[ip.Unmap()] = n.HardwareAddr.String()
			}
		}
		return err
	})
	return found, err
}

// insistence is how often somebody may put another entry in the place of a pin until the entry is left to him.
const insistence = 3

// said is what a status says of one sandbox, by gateway.
type said struct {
	node.Sandbox
	pinned  map[netip.Addr]string
	skipped map[netip.Addr]string
	stale   map[netip.Addr]node.Stale
}

func read(sandbox node.Sandbox) (said, error) {
	s := said{sandbox, map[netip.Addr]string{}, map[netip.Addr]string{}, map[netip.Addr]node.Stale{}}
	var errs []error
	at := func(dst, dev string) netip.Addr {
		ip, err := netip.ParseAddr(dst)
		if err == nil && (dev != "eth0" || !slices.Contains(gateways, ip)) {
			err = fmt.Errorf("%s on %s is no gateway", dst, dev)
		}
		errs = append(errs, err)
		return ip
	}
	for _, n := range sandbox.Neighbors {
		s.pinned[at(n.Dst, n.Dev)] = n.LLAddr
	}
	for _, n := range sandbox.Skipped {
		s.skipped[at(n.Dst, n.Dev)] = n.Reason
	}
	for _, n := range sandbox.Stale {
		s.stale[at(n.Dst, n.Dev)] = n
	}
	return s, errors.Join(errs...)
}

// differences says in which way a sandbox, or what is said of it, is not as it should be.
func (p *pod) differences(sandbox node.Sandbox) error {
	s, err := read(sandbox)
	if err != nil {
		return err
	}
	is, err := truth(p.Pod)
	if err != nil {
		return err
	}
	there, err := entries(p.Pod)
	if err != nil {
		return err
	}
	check := p.kernelDiffers
	if p.gvisor {
		check = p.copyDiffers
	}
	if err := check(s, is, there); err != nil {
		return fmt.Errorf("%w: true is %v, in the kernel %v, said %+v", err, is, there, sandbox)
	}
	return nil
}

// kernelDiffers is about a pod that uses the kernel's table.
func (p *pod) kernelDiffers(s said, is, there map[netip.Addr]string) error {
	if s.Phase == "starting" && p.container != nil || len(s.Stale) != 0 || s.Error != "" {
		return errors.New("it is not settled")
	}
	for _, gateway := range gateways {
		reason, skipped := s.skipped[gateway]
		switch {
		case reason == "Insists" && p.replaced[gateway] >= insistence && s.pinned[gateway] == "":
			// The test did, and has the entry.
		case reason == "Unowned" && is[gateway] == "" && there[gateway] != "" && there[gateway] == p.foreign[gateway] && s.pinned[gateway] == "":
			// The test put it there while nobody on the node is the gateway.
		case is[gateway] == "" && (there[gateway] != "" || !skipped || s.pinned[gateway] != ""):
			return fmt.Errorf("%s has no truth, and is not withdrawn with a reason", gateway)
		case is[gateway] != "" && there[gateway] != is[gateway]:
			return fmt.Errorf("%s is not pinned as it should be", gateway)
		case s.pinned[gateway] != is[gateway] || skipped != (is[gateway] == ""):
			return fmt.Errorf("what is said of %s is not true", gateway)
		}
	}
	return nil
}

// copyDiffers is about a pod whose runtime took a copy: that cannot be mended, and has to be said.
func (p *pod) copyDiffers(s said, is, there map[netip.Addr]string) error {
	copied, err := p.Copied()
	if err != nil {
		return err
	}
	if s.Phase != "started" || s.Timing.Verdict == "pending" {
		return errors.New("it is not settled")
	}
	if s.Timing.Verdict != "inTime" && len(copied) == 0 || len(s.pinned)+len(s.stale) == 0 {
		// neighpin was not there when it started. It must not say otherwise; what became of what an earlier process may have pinned, and
		// not recorded, before it was killed, nobody can know.
		if s.Timing.Verdict == "inTime" || s.Timing.Verdict == "nothing" || !p.passing {
			return fmt.Errorf("runsc copied %v, and that is not what is said", copied)
		}
		return nil
	}
	for _, gateway := range gateways {
		stale, isStale := s.stale[gateway]
		switch {
		case copied[gateway] == "" && (s.Timing.Verdict == "late" || s.Timing.Verdict == "unproven") && p.passing:
			// runsc read while neighpin wrote, or was killed, and it is not said to have been in time; what became of the pin is nobody's
			// business any more.
		case copied[gateway] == "":
			return fmt.Errorf("runsc copied %v, and the verdict is neither late nor unproven", copied)
		case isStale != (copied[gateway] != is[gateway]):
			return fmt.Errorf("runsc copied %v, and what is stale of it is not what is said", copied)
		case isStale && (stale.Copied != copied[gateway] || stale.LLAddr != is[gateway] || stale.Since.IsZero() || is[gateway] == "" && stale.Reason == ""):
			return fmt.Errorf("runsc copied %v, and what is said to be stale of it is not true", copied)
		case s.pinned[gateway] != is[gateway]:
			return fmt.Errorf("what is said of %s is not true", gateway)
		case there[gateway] != "" && there[gateway] != is[gateway]:
			return fmt.Errorf("the entry for %s that runsc left is not true", gateway)
		}
	}
	return nil
}
