// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// complain returns an exit code.
func complain(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "workload:", err)
	return 1
}

// setNeighbor puts a permanent entry with a mark on eth0, which the library's own function cannot give.
func setNeighbor(dst, lladdr, mark string) error {
	ip := net.ParseIP(dst)
	station, err := net.ParseMAC(lladdr)
	if err != nil {
		return err
	}
	protocol, err := strconv.ParseUint(mark, 10, 8)
	if err != nil {
		return err
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	family, raw := unix.AF_INET6, ip.To16()
	if four := ip.To4(); four != nil {
		family, raw = unix.AF_INET, four
	}
	request := nl.NewNetlinkRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	request.AddData(&netlink.Ndmsg{Family: uint8(family), Index: uint32(eth0.Attrs().Index), State: unix.NUD_PERMANENT})
	request.AddData(nl.NewRtAttr(netlink.NDA_DST, raw))
	request.AddData(nl.NewRtAttr(netlink.NDA_LLADDR, station))
	request.AddData(nl.NewRtAttr(netlink.NDA_PROTOCOL, []byte{byte(protocol)}))
	_, err = request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// setRoute makes a route by way of a gateway that need not be on the link.
func setRoute(destination, gateway string) error {
	dst, err := netlink.ParseIPNet(destination)
	if err != nil {
		return err
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: dst, Gw: net.ParseIP(gateway), Flags: int(netlink.FLAG_ONLINK)})
}
