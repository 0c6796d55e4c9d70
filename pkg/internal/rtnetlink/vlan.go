// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
)

// VLANs are the VLANs of a namespace's bridges and their ports, by the number of
// the link.
type VLANs map[int32][]*nl.BridgeVlanInfo

// PortVLAN is the VLAN that frames without a tag belong to on a port, or on the
// bridge itself. Zero means that there is none.
type PortVLAN struct {
	PVID     uint16
	Untagged bool // frames of it leave without a tag again
}

// Untagged is what a port does with frames without a tag.
func (m VLANs) Untagged(index int) (vlan PortVLAN) {
	for _, v := range m[int32(index)] {
		if v.PortVID() {
			vlan = PortVLAN{PVID: v.Vid, Untagged: v.EngressUntag()}
		}
	}
	return vlan
}

// Tagged tells whether frames of a VLAN leave by the link with their tag.
func (m VLANs) Tagged(index int, vid uint16) bool {
	return slices.ContainsFunc(m[int32(index)], func(v *nl.BridgeVlanInfo) bool { return v.Vid == vid && !v.EngressUntag() })
}

// ReadVLANs reads the VLANs of every bridge and port of the namespace that the
// calling thread is in; the result is not nil. Those of another can be read only from
// there (net/core/rtnetlink.c, rtnl_bridge_getlink knows no IFLA_TARGET_NETNSID).
func ReadVLANs() (list VLANs, err error) {
	err = uninterrupted(func() (err error) {
		list, err = netlink.BridgeVlanList() //nolint:forbidigo // the caller's thread is in the right namespace, and an interrupted list is read again
		return err
	})
	return list, err
}
