// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net"
	"os/exec"
	"strings"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
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

// macOf reads a link's MAC in the calling thread's namespace.
func macOf(name string) (net.HardwareAddr, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", name, err)
	}
	return link.Attrs().HardwareAddr, nil
}
