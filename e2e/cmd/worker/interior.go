// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	handle "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/netns"
)

// makeNamespace makes a network namespace and mounts it at path, by which the OCI runtime finds it.
func makeNamespace(pod *netns.NS, path string) (*netns.NS, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return nil, err
	}
	// Do brings its thread back to where it was.
	err := pod.Do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return nil, fmt.Errorf("make network namespace %s: %w", path, err)
	}
	return netns.Open(path)
}

// network is how a link is set up: what a move to another namespace takes from it.
type network struct {
	addresses []netlink.Addr
	routes    []netlink.Route
}

// moveLink moves a link and sets it up in the new namespace as it was in the old one. Its MAC is kept: the node knows it.
func moveLink(name string, from, to *netns.NS) error {
	var before network
	err := in(from, func(h *netlink.Handle) error {
		l, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		if before, err = readNetwork(h, l); err != nil {
			return err
		}
		return h.LinkSetNsFd(l, to.FD())
	})
	if err == nil {
		err = in(to, func(h *netlink.Handle) error { return setUp(h, name, before) })
	}
	if err != nil {
		return fmt.Errorf("move %s: %w", name, err)
	}
	return nil
}

// in lets fn speak to the kernel about a namespace.
func in(ns *netns.NS, fn func(*netlink.Handle) error) error {
	h, err := netlink.NewHandleAt(handle.NsHandle(ns.FD()), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	return fn(h)
}

func readNetwork(h *netlink.Handle, l netlink.Link) (network, error) {
	var n network
	var errs [2]error
	n.addresses, errs[0] = h.AddrList(l, netlink.FAMILY_ALL)
	n.routes, errs[1] = h.RouteList(l, netlink.FAMILY_ALL)
	// The kernel makes these by itself.
	n.addresses = slices.DeleteFunc(n.addresses, func(a netlink.Addr) bool { return a.IP.IsLinkLocalUnicast() })
	n.routes = slices.DeleteFunc(n.routes, func(r netlink.Route) bool { return r.Protocol == unix.RTPROT_KERNEL })
	// Routes by way of a gateway need the route to the gateway.
	slices.SortStableFunc(n.routes, func(a, b netlink.Route) int { return rank(a) - rank(b) })
	return n, errors.Join(errs[:]...)
}

func rank(r netlink.Route) int {
	if r.Gw != nil || r.Via != nil || len(r.MultiPath) > 0 {
		return 1
	}
	return 0
}

func setUp(h *netlink.Handle, name string, n network) error {
	for _, each := range []string{"lo", name} {
		l, err := h.LinkByName(each)
		if err == nil {
			err = h.LinkSetUp(l)
		}
		if err != nil {
			return fmt.Errorf("set %s up: %w", each, err)
		}
	}
	l, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range n.addresses {
		a.Label, a.Flags = "", unix.IFA_F_NODAD // it was the pod's before
		if err := h.AddrReplace(l, &a); err != nil {
			return fmt.Errorf("add address %s: %w", a.IPNet, err)
		}
	}
	for _, r := range n.routes {
		r.LinkIndex, r.Flags = l.Attrs().Index, r.Flags&int(netlink.FLAG_ONLINK)
		if err := h.RouteReplace(&r); err != nil {
			return fmt.Errorf("add route %s: %w", r, err)
		}
	}
	return nil
}
