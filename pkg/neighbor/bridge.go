// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/netns"
)

// vlans are the VLANs of a namespace's bridges and their ports, by the number of
// the link.
type vlans map[int32][]*nl.BridgeVlanInfo

// portVLAN is the VLAN that frames without a tag belong to on a port, or on the
// bridge itself. Zero means that there is none.
type portVLAN struct {
	pvid     uint16
	untagged bool // frames of it leave without a tag again
}

func (m vlans) untagged(index int) (vlan portVLAN) {
	for _, v := range m[int32(index)] {
		if v.PortVID() {
			vlan = portVLAN{pvid: v.Vid, untagged: v.EngressUntag()}
		}
	}
	return vlan
}

// tagged tells whether frames of a VLAN leave by the link with their tag.
func (m vlans) tagged(index int, vid uint16) bool {
	return slices.ContainsFunc(m[int32(index)], func(v *nl.BridgeVlanInfo) bool { return v.Vid == vid && !v.EngressUntag() })
}

// meet tells whether a frame that enters one without a tag leaves the other
// without one, and the answer gets back the same way.
func meet(port, other portVLAN) bool {
	return port.pvid != 0 && port.pvid == other.pvid && port.untagged && other.untagged
}

// bridgeVLANs reads the VLANs of a bridge that filters. They can be read only
// from a socket in its own namespace (net/core/rtnetlink.c, rtnl_bridge_getlink
// knows no IFLA_TARGET_NETNSID), so they are known for the host's bridges; of
// any other the verdict says that they are not.
func (s *survey) bridgeVLANs(ctx context.Context, bridge link, nsid int32) (list vlans, v verdict, err error) {
	ours, err := s.isHost(ctx, nsid)
	if err != nil {
		return nil, verdict{}, err
	}
	if !ours {
		return nil, no(ReasonBridgeVLAN, "the bridge %s filters VLANs and is in another namespace than this process, so its VLANs cannot be read",
			printable(bridge.name)), nil
	}
	list, err = s.hostVLANs(func() (list vlans, err error) {
		err = s.inHost(func(host *netns.NS) (err error) {
			list, err = readVLANs(host)
			return err
		})
		return list, err
	})
	if err != nil {
		return nil, verdict{}, fmt.Errorf("read the VLANs of bridge %s: %w", printable(bridge.name), err)
	}
	return list, verdict{}, nil
}

// readVLANs reads the VLANs of every bridge and port of a namespace; the result
// is not nil.
func readVLANs(ns *netns.NS) (list vlans, err error) {
	err = ns.Do(func() error {
		return uninterrupted(func() (err error) {
			list, err = netlink.BridgeVlanList() //nolint:forbidigo // Do's thread is in the right namespace, and an interrupted list is read again
			return err
		})
	})
	return list, err
}

// nsidOf returns the number by which the sandbox knows another namespace, or
// nsidNone.
func (t *Table) nsidOf(ctx context.Context, ns *netns.NS) (int32, error) {
	known, err := t.conn.nsid(ctx, ns)
	if err != nil {
		return nsidNone, fmt.Errorf("read the number of namespace %s: %w", printable(ns.Path()), err)
	}
	return known, nil
}

// parseNSID reads the body of RTM_NEWNSID.
func parseNSID(body []byte) (id int32, err error) {
	a, found := readAttrs(body, unix.SizeofRtGenmsg), false
	for a.next() {
		if a.kind == netlink.NETNSA_NSID {
			id, found = int32(a.u32()), true
		}
	}
	if a.err == nil && !found {
		a.err = errMalformed
	}
	if a.err != nil {
		return 0, a.err
	}
	return id, nil
}
