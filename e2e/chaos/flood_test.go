// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/datapath"
)

const (
	// floodStations are the IP addresses that a flood is about; what is said of them changes again and again.
	floodStations = 200
	// floodBatch is how many changes the kernel is given at once.
	floodBatch = 100
)

// flood changes permanent entries on a link of the namespace at path, and the link's alias in between, so often that whoever listens may
// lose something, and removes the entries. The gateways are none of them. What the kernel says of such entries need not reach neighpin,
// what it says of links does.
func flood(path, name string, changes int) error {
	index := 0
	err := inside(path, func(h *netlink.Handle) error {
		link, err := h.LinkByName(name)
		if err == nil {
			index = link.Attrs().Index
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("flood %s: %w", name, err)
	}
	fd := -1
	// The socket stays where it was made, whatever thread uses it.
	err = datapath.Inside(path, func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return fmt.Errorf("flood %s: %w", name, err)
	}
	defer unix.Close(fd)
	for done := 0; done < changes; done += floodBatch {
		var batch []byte
		for i := done; i < done+floodBatch; i++ {
			batch = append(batch, floodMessage(i, index)...)
		}
		if err := unix.Sendto(fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return fmt.Errorf("flood %s: %w", name, err)
		}
	}
	return inside(path, func(h *netlink.Handle) error {
		for i := range floodStations {
			err := h.NeighDel(&netlink.Neigh{LinkIndex: index, Family: netlink.FAMILY_V4, IP: floodStation(i)})
			if gone(err) != nil {
				return fmt.Errorf("end the flood of %s: %w", name, err)
			}
		}
		return nil
	})
}

func floodStation(i int) []byte {
	return netip.AddrFrom4([4]byte{10, 97, 250, byte(i % floodStations)}).AsSlice()
}

// floodMessage sets an entry or the link's alias and wants no answer.
func floodMessage(i, index int) []byte {
	if i%2 == 0 {
		request := nl.NewNetlinkRequest(unix.RTM_SETLINK, 0)
		request.Flags &^= unix.NLM_F_ACK
		msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(index)
		request.AddData(msg)
		request.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, fmt.Appendf(nil, "flood %d", i)))
		return request.Serialize()
	}
	request := nl.NewNetlinkRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	request.Flags &^= unix.NLM_F_ACK
	request.AddData(&netlink.Ndmsg{Family: unix.AF_INET, Index: uint32(index), State: unix.NUD_PERMANENT})
	request.AddData(nl.NewRtAttr(netlink.NDA_DST, floodStation(i)))
	request.AddData(nl.NewRtAttr(netlink.NDA_LLADDR, []byte{2, 0xf1, 0, byte(i >> 16), byte(i >> 8), byte(i)}))
	return request.Serialize()
}
