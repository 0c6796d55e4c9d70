// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/netns"
)

// portVLAN is the VLAN that frames without a tag belong to on a port, or on the
// bridge itself. Zero means that there is none.
type portVLAN struct {
	pvid     uint16
	untagged bool // frames of it leave without a tag again
}

func untaggedVLAN(list []*nl.BridgeVlanInfo) (vlan portVLAN) {
	for _, v := range list {
		if v.PortVID() {
			vlan = portVLAN{pvid: v.Vid, untagged: v.EngressUntag()}
		}
	}
	return vlan
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
	portVLAN, bridgeVLAN, err := bridgeVLANs(self, port.index, bridge.index)
	if err != nil {
		return verdict{}, fmt.Errorf("read the VLANs of bridge %s: %w", printable(bridge.name), err)
	}
	if !meet(portVLAN, bridgeVLAN) {
		return no(ReasonBridgeVLAN, "the bridge %s filters VLANs: untagged frames are in VLAN %d on port %s and in %d on the bridge",
			printable(bridge.name), portVLAN.pvid, printable(port.name), bridgeVLAN.pvid), nil
	}
	return verdict{}, nil
}

func bridgeVLANs(ns *netns.NS, port, bridge int) (portVLAN, portVLAN, error) {
	var vlans map[int32][]*nl.BridgeVlanInfo
	err := ns.Do(func() error {
		return uninterrupted(func() (err error) {
			vlans, err = netlink.BridgeVlanList() //nolint:forbidigo // Do's thread is in the right namespace, and an interrupted list is read again
			return err
		})
	})
	return untaggedVLAN(vlans[int32(port)]), untaggedVLAN(vlans[int32(bridge)]), err
}

// nsidOf returns the number by which the sandbox knows another namespace, or
// nsidNone.
func (t *Table) nsidOf(ctx context.Context, ns *netns.NS) (int32, error) {
	r := newRequest(unix.RTM_GETNSID, 0, nl.NewRtGenMsg(), attr32(netlink.NETNSA_FD, uint32(ns.FD())))
	known, err := get(ctx, t.conn, r, parseNSID)
	if err != nil {
		return nsidNone, fmt.Errorf("read the number of namespace %s: %w", printable(ns.Path()), err)
	}
	return known, nil
}

// parseNSID reads the body of RTM_NEWNSID.
func parseNSID(body []byte) (id int32, err error) {
	defer refuse(&id, &err)
	attrs, err := nl.ParseRouteAttrAsMap(body[nl.NewRtGenMsg().Len():])
	if err != nil {
		return 0, err
	}
	return int32(binary.NativeEndian.Uint32(attrs[netlink.NETNSA_NSID].Value)), nil
}
