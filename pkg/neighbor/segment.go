// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
	"github.com/neighpin/neighpin/pkg/netns"
)

// anyLink stands for all links of a namespace.
const anyLink = 0

// segment is what a port of a Linux bridge leads to.
type segment struct {
	port, bridge rtnetlink.Link
	nsid         int32           // the namespace that they are in
	vlans        rtnetlink.VLANs // nil when the bridge does not filter, and is one VLAN
}

// openSegment reads a bridge's VLANs, if it has any. The segment is nil and the
// finding says why when they cannot be read.
func (s *survey) openSegment(ctx context.Context, port, bridge rtnetlink.Link, nsid int32) (*segment, finding, error) {
	seg := &segment{port: port, bridge: bridge, nsid: nsid}
	if !bridge.VLANFiltering {
		return seg, finding{}, nil
	}
	list, v, err := s.bridgeVLANs(ctx, bridge, nsid)
	if err != nil || !v.known() {
		return nil, v, err
	}
	seg.vlans = list
	return seg, finding{}, nil
}

// bridgeVLANs reads the VLANs of a bridge that filters. They can be read only from
// within its own namespace, so they are known for the host's bridges; of any other the
// finding says that they are not.
func (s *survey) bridgeVLANs(ctx context.Context, bridge rtnetlink.Link, nsid int32) (list rtnetlink.VLANs, v finding, err error) {
	ours, err := s.isHost(ctx, nsid)
	if err != nil {
		return nil, finding{}, err
	}
	if !ours {
		return nil, no(ReasonBridgeVLAN, "the bridge %s filters VLANs and is in another namespace than this process, so its VLANs cannot be read",
			plain.Text(bridge.Name)), nil
	}
	list, err = s.hostVLANs(func() (list rtnetlink.VLANs, err error) {
		err = s.inHost(func(host *netns.NS) error {
			return host.Do(func() (err error) {
				list, err = rtnetlink.ReadVLANs()
				return err
			})
		})
		return list, err
	})
	if err != nil {
		return nil, finding{}, fmt.Errorf("read the VLANs of bridge %s: %w", plain.Text(bridge.Name), err)
	}
	return list, finding{}, nil
}

// meet tells whether a frame that enters one without a tag leaves the other
// without one, and the answer gets back the same way.
func meet(port, other rtnetlink.PortVLAN) bool {
	return port.PVID != 0 && port.PVID == other.PVID && port.Untagged && other.Untagged
}

// withBridge tells whether the port's frames reach the bridge's own IP stack.
func (g segment) withBridge() bool {
	return g.vlans == nil || meet(g.vlans.Untagged(g.port.Index), g.vlans.Untagged(g.bridge.Index))
}

// withPort tells whether they reach what is behind another port.
func (g segment) withPort(other rtnetlink.Link) bool {
	return other.Index != g.port.Index && other.Master == g.bridge.Index &&
		(g.vlans == nil || meet(g.vlans.Untagged(g.port.Index), g.vlans.Untagged(other.Index)))
}

// withUpper tells whether they reach a VLAN link upon the bridge. Its frames
// carry a tag inside the bridge, which only a bridge that filters puts on those
// of the port (net/bridge/br_vlan.c, __allowed_ingress), and hands to its uppers
// where it is itself a tagged member (br_handle_vlan).
func (g segment) withUpper(upper rtnetlink.Link) bool {
	if g.vlans == nil || upper.HasNSID || upper.Other != g.bridge.Index || upper.VLANProtocol != g.bridge.VLANProtocol {
		return false
	}
	port := g.vlans.Untagged(g.port.Index)
	return port.PVID != 0 && port.Untagged && port.PVID == upper.VLAN && g.vlans.Tagged(g.bridge.Index, upper.VLAN)
}

// judgeSegment says who on the segment is the gateway, as far as the host can
// tell: the bridge, or one link beside it.
func (s *survey) judgeSegment(ctx context.Context, g segment, dst netip.Addr) (finding, error) {
	if g.withBridge() {
		held, err := s.links.Holders(ctx, g.bridge.Index, g.nsid, dst)
		switch {
		case rtnetlink.Gone(err):
			return no(ReasonPeerGone, "the bridge %s is gone", plain.Text(g.bridge.Name)), nil
		case err != nil:
			return finding{}, fmt.Errorf("read the addresses of bridge %s: %w", plain.Text(g.bridge.Name), err)
		case len(held) > 0:
			return finding{lladdr: HardwareAddr(g.port.LLAddr), source: SourcePort}, nil
		}
	}
	found, err := s.beside(ctx, g, dst)
	switch {
	case err != nil:
		return finding{}, err
	case len(found) > 1:
		return no(ReasonRouterBeyondBridge, "several links beside the bridge %s hold the gateway's address, among them %s (%s) and %s (%s)",
			plain.Text(g.bridge.Name), plain.Text(found[0].Name), found[0].LLAddr, plain.Text(found[1].Name), found[1].LLAddr), nil
	case len(found) == 1:
		return finding{lladdr: HardwareAddr(found[0].LLAddr), source: SourceHost}, nil
	case !g.withBridge():
		return no(ReasonBridgeVLAN, "the bridge %s filters VLANs: untagged frames are in VLAN %d on port %s and in %d on the bridge, "+
			"and no link beside it holds the gateway's address there", plain.Text(g.bridge.Name),
			g.vlans.Untagged(g.port.Index).PVID, plain.Text(g.port.Name), g.vlans.Untagged(g.bridge.Index).PVID), nil
	}
	return no(ReasonRouterBeyondBridge, "neither the bridge %s nor a link beside it holds the gateway's address, so the gateway is something beyond it",
		plain.Text(g.bridge.Name)), nil
}

// beside finds the links of the bridge's own namespace, other than the bridge,
// that hold an address and are on the port's VLAN. Those with a link-layer
// address that another has too are left out.
//
// Only that namespace counts. The far end of a port may as well be in a pod,
// which may give itself any address.
func (s *survey) beside(ctx context.Context, g segment, dst netip.Addr) (found []rtnetlink.Link, err error) {
	indices, err := s.links.Holders(ctx, anyLink, g.nsid, dst)
	if err != nil && !rtnetlink.Gone(err) {
		return nil, fmt.Errorf("read who holds %s beside bridge %s: %w", dst, plain.Text(g.bridge.Name), err)
	}
	known := make(map[string]bool)
	for _, index := range indices {
		holder, ok, err := s.onSegment(ctx, g, index)
		if err != nil {
			return nil, err
		}
		if ok && !known[holder.LLAddr] {
			known[holder.LLAddr] = true
			found = append(found, holder)
		}
	}
	return found, nil
}

// onSegment reads a link and tells whether frames from the port end at its IP
// stack.
func (s *survey) onSegment(ctx context.Context, g segment, index int) (holder rtnetlink.Link, ok bool, err error) {
	if holder, ok, err = s.outside(ctx, index, g.nsid); !ok || err != nil {
		return rtnetlink.Link{}, false, err
	}
	switch {
	case holder.Kind == rtnetlink.KindVLAN:
		ok = g.withUpper(holder)
	case holder.Kind == rtnetlink.KindVeth && !holder.HasNSID && holder.Other != 0:
		var near rtnetlink.Link
		near, ok, err = s.outside(ctx, holder.Other, g.nsid)
		ok = ok && near.Kind == rtnetlink.KindVeth && near.Other == holder.Index && g.withPort(near)
		if ok {
			s.rest(near.Index)
		}
	default:
		ok = false
	}
	if !ok || err != nil {
		return rtnetlink.Link{}, false, err
	}
	s.rest(holder.Index)
	ok, err = s.terminates(ctx, holder, g.nsid)
	return holder, ok && HardwareAddr(holder.LLAddr).IsUnicast(), err
}

// terminates tells whether frames that a link takes in end at its own IP stack,
// and not at a master's.
func (s *survey) terminates(ctx context.Context, l rtnetlink.Link, nsid int32) (bool, error) {
	if l.Master == 0 {
		return true, nil
	}
	master, ok, err := s.outside(ctx, l.Master, nsid)
	return ok && beyond(l, master).source == SourcePeer, err
}

// outside reads a link of another namespace that may be gone by now.
func (s *survey) outside(ctx context.Context, index int, nsid int32) (l rtnetlink.Link, ok bool, err error) {
	l, err = s.links.Link(ctx, index, nsid)
	switch {
	case rtnetlink.Gone(err):
		return rtnetlink.Link{}, false, nil
	case err != nil:
		return rtnetlink.Link{}, false, fmt.Errorf("read link %d beside the bridge: %w", index, err)
	}
	return l, true, nil
}
