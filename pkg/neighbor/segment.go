// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"fmt"
	"net/netip"
)

// segment is what a port of a Linux bridge leads to.
type segment struct {
	port, bridge link
	nsid         int32 // the namespace that they are in
	vlans        vlans // nil when the bridge does not filter, and is one VLAN
}

// openSegment reads a bridge's VLANs, if it has any. The segment is nil and the
// verdict says why when they cannot be read.
func (s *survey) openSegment(ctx context.Context, port, bridge link, nsid int32) (*segment, verdict, error) {
	seg := &segment{port: port, bridge: bridge, nsid: nsid}
	if !bridge.vlanFiltering {
		return seg, verdict{}, nil
	}
	list, v, err := s.bridgeVLANs(ctx, bridge, nsid)
	if err != nil || !v.known() {
		return nil, v, err
	}
	seg.vlans = list
	return seg, verdict{}, nil
}

// withBridge tells whether the port's frames reach the bridge's own IP stack.
func (g segment) withBridge() bool {
	return g.vlans == nil || meet(g.vlans.untagged(g.port.index), g.vlans.untagged(g.bridge.index))
}

// withPort tells whether they reach what is behind another port.
func (g segment) withPort(other link) bool {
	return other.index != g.port.index && other.master == g.bridge.index &&
		(g.vlans == nil || meet(g.vlans.untagged(g.port.index), g.vlans.untagged(other.index)))
}

// withUpper tells whether they reach a VLAN link upon the bridge. Its frames
// carry a tag inside the bridge, which only a bridge that filters puts on those
// of the port (net/bridge/br_vlan.c, __allowed_ingress), and hands to its uppers
// where it is itself a tagged member (br_handle_vlan).
func (g segment) withUpper(upper link) bool {
	if g.vlans == nil || upper.hasNSID || upper.other != g.bridge.index || upper.vlanProtocol != g.bridge.vlanProtocol {
		return false
	}
	port := g.vlans.untagged(g.port.index)
	return port.pvid != 0 && port.untagged && port.pvid == upper.vlan && g.vlans.tagged(g.bridge.index, upper.vlan)
}

// judgeSegment says who on the segment is the gateway, as far as the host can
// tell: the bridge, or one link beside it.
func (s *survey) judgeSegment(ctx context.Context, g segment, dst netip.Addr) (verdict, error) {
	if g.withBridge() {
		held, err := s.links.holds(ctx, g.bridge.index, g.nsid, dst)
		switch {
		case gone(err):
			return no(ReasonPeerGone, "the bridge %s is gone", printable(g.bridge.name)), nil
		case err != nil:
			return verdict{}, fmt.Errorf("read the addresses of bridge %s: %w", printable(g.bridge.name), err)
		case held:
			return verdict{lladdr: g.port.lladdr, source: SourcePort}, nil
		}
	}
	found, err := s.beside(ctx, g, dst)
	switch {
	case err != nil:
		return verdict{}, err
	case len(found) > 1:
		return no(ReasonRouterBeyondBridge, "several links beside the bridge %s hold the gateway's address, among them %s (%s) and %s (%s)",
			printable(g.bridge.name), printable(found[0].name), found[0].lladdr, printable(found[1].name), found[1].lladdr), nil
	case len(found) == 1:
		return verdict{lladdr: found[0].lladdr, source: SourceHost}, nil
	case !g.withBridge():
		return no(ReasonBridgeVLAN, "the bridge %s filters VLANs: untagged frames are in VLAN %d on port %s and in %d on the bridge, "+
			"and no link beside it holds the gateway's address there", printable(g.bridge.name),
			g.vlans.untagged(g.port.index).pvid, printable(g.port.name), g.vlans.untagged(g.bridge.index).pvid), nil
	}
	return no(ReasonRouterBeyondBridge, "neither the bridge %s nor a link beside it holds the gateway's address, so the gateway is something beyond it",
		printable(g.bridge.name)), nil
}

// beside finds the links of the bridge's own namespace, other than the bridge,
// that hold an address and are on the port's VLAN. Those with a link-layer
// address that another has too are left out.
//
// Only that namespace counts. The far end of a port may as well be in a pod,
// which may give itself any address.
func (s *survey) beside(ctx context.Context, g segment, dst netip.Addr) (found []link, err error) {
	indices, err := s.links.holders(ctx, g.nsid, dst)
	if err != nil && !gone(err) {
		return nil, fmt.Errorf("read who holds %s beside bridge %s: %w", dst, printable(g.bridge.name), err)
	}
	known := make(map[HardwareAddr]bool)
	for _, index := range indices {
		holder, ok, err := s.onSegment(ctx, g, index)
		if err != nil {
			return nil, err
		}
		if ok && !known[holder.lladdr] {
			known[holder.lladdr] = true
			found = append(found, holder)
		}
	}
	return found, nil
}

// onSegment reads a link and tells whether frames from the port end at its IP
// stack.
func (s *survey) onSegment(ctx context.Context, g segment, index int) (holder link, ok bool, err error) {
	if holder, ok, err = s.outside(ctx, index, g.nsid); !ok || err != nil {
		return link{}, false, err
	}
	switch {
	case holder.kind == kindVLAN:
		ok = g.withUpper(holder)
	case holder.kind == kindVeth && !holder.hasNSID && holder.other != 0:
		var near link
		near, ok, err = s.outside(ctx, holder.other, g.nsid)
		ok = ok && near.kind == kindVeth && near.other == holder.index && g.withPort(near)
		if ok {
			s.rest(near.index)
		}
	default:
		ok = false
	}
	if !ok || err != nil {
		return link{}, false, err
	}
	s.rest(holder.index)
	ok, err = s.terminates(ctx, holder, g.nsid)
	return holder, ok && holder.lladdr.IsUnicast(), err
}

// terminates tells whether frames that a link takes in end at its own IP stack,
// and not at a master's.
func (s *survey) terminates(ctx context.Context, l link, nsid int32) (bool, error) {
	if l.master == 0 {
		return true, nil
	}
	master, ok, err := s.outside(ctx, l.master, nsid)
	return ok && beyond(l, master).source == SourcePeer, err
}

// outside reads a link of another namespace that may be gone by now.
func (s *survey) outside(ctx context.Context, index int, nsid int32) (l link, ok bool, err error) {
	l, err = s.links.link(ctx, index, nsid)
	switch {
	case gone(err):
		return link{}, false, nil
	case err != nil:
		return link{}, false, fmt.Errorf("read link %d beside the bridge: %w", index, err)
	}
	return l, true, nil
}
