// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

// ip runs commands of iproute2 in the calling thread's namespace, one per line, up to the first that fails. They say what a
// datapath is in the words in which its plugin's documentation does.
func ip(commands string) error {
	for command := range strings.Lines(commands) {
		args := strings.Fields(command)
		if len(args) == 0 {
			continue
		}
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// single makes every address of a result stand for itself alone (/32 and /128) and its gateway the one of its family.
func single(result *current.Result, gateway4, gateway6 string) (pod4, pod6 net.IP) {
	for _, ip := range result.IPs {
		if ip.Address.IP.To4() != nil {
			ip.Address.Mask, ip.Gateway, pod4 = net.CIDRMask(32, 32), net.ParseIP(gateway4), ip.Address.IP
		} else {
			ip.Address.Mask, ip.Gateway, pod6 = net.CIDRMask(128, 128), net.ParseIP(gateway6), ip.Address.IP
		}
	}
	return pod4, pod6
}

// settle waits until no IPv6 address of a link of the calling thread's namespace is tentative any more, as plugins do that leave duplicate
// address detection on.
func settle(ifName string) error {
	handle, link, err := openLink(ifName)
	if err != nil {
		return err
	}
	defer handle.Close()
	return await.Within(context.Background(), 30*time.Second, "duplicate address detection on "+ifName, func() error {
		addresses, err := handle.AddrList(link, netlink.FAMILY_V6)
		for _, a := range addresses {
			if a.Flags&unix.IFA_F_TENTATIVE != 0 {
				err = fmt.Errorf("%s is tentative", a.IP)
			}
		}
		return err
	})
}

// openLink opens a handle in the calling thread's namespace, where it stays, and finds a link there. The caller must close the handle.
func openLink(ifName string) (*netlink.Handle, netlink.Link, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	link, err := handle.LinkByName(ifName)
	if err != nil {
		handle.Close()
		return nil, nil, fmt.Errorf("find %s: %w", ifName, err)
	}
	return handle, link, nil
}
