// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/netns"
)

// Of include/uapi/linux/if_bridge.h and rtnetlink.h.
const (
	bridgeVLANInfo     = 2 // IFLA_BRIDGE_VLAN_INFO
	vlanPVID           = 1 << 1
	vlanUntagged       = 1 << 2
	filterBridgeVLAN   = 1 << 1 // RTEXT_FILTER_BRVLAN
	sizeofVLANInfo     = 4
	sizeofRtgenmsgPad  = 4 // struct rtgenmsg is one byte, padded
	nsidAttr, nsFDAttr = 1, 3
)

// portVLAN is the VLAN that frames without a tag belong to on a port, or on the
// bridge itself. Zero means that there is none.
type portVLAN struct {
	pvid     uint16
	untagged bool // frames of it leave without a tag again
}

// parseBridgeVLANs reads the body of RTM_NEWLINK of the family AF_BRIDGE.
func parseBridgeVLANs(body []byte) (index int, vlan portVLAN, err error) {
	if len(body) < unix.SizeofIfInfomsg {
		return 0, vlan, errMalformed
	}
	number := int32(binary.NativeEndian.Uint32(body[4:]))
	if number <= 0 {
		return 0, vlan, errMalformed
	}
	err = eachAttr(body[unix.SizeofIfInfomsg:], func(kind uint16, v []byte) error {
		if kind != unix.IFLA_AF_SPEC {
			return nil
		}
		return eachAttr(v, func(kind uint16, info []byte) error {
			if kind != bridgeVLANInfo {
				return nil
			}
			// struct bridge_vlan_info: flags, vid
			if len(info) < sizeofVLANInfo {
				return errMalformed
			}
			flags := binary.NativeEndian.Uint16(info)
			if flags&vlanPVID != 0 {
				vlan = portVLAN{pvid: binary.NativeEndian.Uint16(info[2:]), untagged: flags&vlanUntagged != 0}
			}
			return nil
		})
	})
	if err != nil {
		return 0, portVLAN{}, err
	}
	return int(number), vlan, nil
}

// meet tells whether a frame that enters the port without a tag reaches the
// bridge's own IP stack without one, and the answer gets back the same way.
func meet(port, bridge portVLAN) bool {
	return port.pvid != 0 && port.pvid == bridge.pvid && port.untagged && bridge.untagged
}

// sameVLAN tells whether a port and its bridge are in one VLAN. A bridge that
// does not filter has only one. Of one that does, the VLANs can be read only from
// a socket in its own namespace (net/core/rtnetlink.c, rtnl_bridge_getlink knows
// no IFLA_TARGET_NETNSID), so they are known for the host's bridges.
func (t *Table) sameVLAN(ctx context.Context, port, bridge link, nsid int32) (verdict, error) {
	if !bridge.vlanFiltering {
		return verdict{}, nil
	}
	self, err := netns.Self()
	if err != nil {
		return verdict{}, err
	}
	defer self.Close()
	known, err := t.nsidOf(ctx, self)
	if err != nil {
		return verdict{}, err
	}
	if known == nsidNone || known != nsid {
		return no(ReasonBridgeVLAN, "the bridge %s filters VLANs and is in another namespace than this process, so its VLANs cannot be read",
			printable(bridge.name)), nil
	}
	var c *conn
	if err := self.Do(func() (err error) { c, err = dial(); return err }); err != nil {
		return verdict{}, err
	}
	defer c.Close()
	portVLAN, bridgeVLAN, err := c.bridgeVLANs(ctx, port.index, bridge.index)
	if err != nil {
		return verdict{}, fmt.Errorf("read the VLANs of bridge %s: %w", printable(bridge.name), err)
	}
	if !meet(portVLAN, bridgeVLAN) {
		return no(ReasonBridgeVLAN, "the bridge %s filters VLANs: untagged frames are in VLAN %d on port %s and in %d on the bridge",
			printable(bridge.name), portVLAN.pvid, printable(port.name), bridgeVLAN.pvid), nil
	}
	return verdict{}, nil
}

func (c *conn) bridgeVLANs(ctx context.Context, port, bridge int) (portVLAN, portVLAN, error) {
	body := make([]byte, unix.SizeofIfInfomsg)
	body[0] = unix.AF_BRIDGE
	body = appendAttr32(body, unix.IFLA_EXT_MASK, filterBridgeVLAN)
	vlans := make(map[int]portVLAN, 2)
	err := c.dump(ctx, request{kind: unix.RTM_GETLINK, body: body}, func() { clear(vlans) },
		func(_ uint16, body []byte) error {
			index, vlan, err := parseBridgeVLANs(body)
			if err == nil && (index == port || index == bridge) {
				vlans[index] = vlan
			}
			return err
		})
	return vlans[port], vlans[bridge], err
}

// nsidOf returns the number by which the sandbox knows another namespace, or
// nsidNone.
func (t *Table) nsidOf(ctx context.Context, ns *netns.NS) (int32, error) {
	known := int32(nsidNone)
	r := request{kind: unix.RTM_GETNSID,
		body: appendAttr32(make([]byte, sizeofRtgenmsgPad), nsFDAttr, uint32(ns.FD()))}
	err := t.conn.get(ctx, r, func(_ uint16, body []byte) (err error) {
		known, err = parseNSID(body)
		return err
	})
	if err != nil {
		return nsidNone, fmt.Errorf("read the number of namespace %s: %w", printable(ns.Path()), err)
	}
	return known, nil
}

// parseNSID reads the body of RTM_NEWNSID.
func parseNSID(body []byte) (int32, error) {
	if len(body) < sizeofRtgenmsgPad {
		return nsidNone, errMalformed
	}
	id := int32(nsidNone)
	err := eachAttr(body[sizeofRtgenmsgPad:], func(kind uint16, v []byte) error {
		if kind != nsidAttr {
			return nil
		}
		n, err := attrU32(v)
		id = int32(n)
		return err
	})
	if err != nil {
		return nsidNone, err
	}
	return id, nil
}
