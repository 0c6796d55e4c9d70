// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Kinds of links, in the words of the kernel (rtnl_link_ops.kind).
const (
	kindVeth   = "veth"
	kindNetkit = "netkit"
	kindBridge = "bridge"
	kindVRF    = "vrf"
)

// verdict is what the host knows about a gateway: an address with its source,
// or the reason for none.
type verdict struct {
	lladdr  HardwareAddr
	source  Source
	reason  Reason
	message string
}

func (v verdict) known() bool { return v.reason == "" }

func no(reason Reason, format string, args ...any) verdict {
	return verdict{reason: reason, message: fmt.Sprintf(format, args...)}
}

// outlook is what the host knows about everything that is reached over one
// link of the sandbox.
type outlook struct {
	verdict // for all gateways, unless bridge is set

	bridge *link // holds the gateway's IP address, or has no say
	nsid   int32 // the namespace that the bridge is in
}

// outlook follows a link to its other end. That is looked for in the namespace
// which the kernel says it is in, not in the host's.
func (t *Table) outlook(ctx context.Context, l link) (outlook, error) {
	if l.kind != kindVeth && l.kind != kindNetkit {
		return outlook{verdict: no(ReasonUnsupportedLink,
			"the link is %s; only the other end of a veth or netkit pair is known to the host", l.what())}, nil
	}
	if !l.lladdr.IsUnicast() {
		return outlook{verdict: no(ReasonZeroMAC, "the link's own address is %q", l.lladdr)}, nil
	}
	switch {
	case l.other == 0, l.hasNSID && l.nsid < 0:
		return outlook{verdict: no(ReasonPeerGone, "the link's other end is gone")}, nil
	case !l.hasNSID:
		return outlook{verdict: no(ReasonPeerInSandbox, "the link's other end is in the sandbox itself")}, nil
	}
	peer, err := t.conn.link(ctx, l.other, l.nsid)
	if gone(err) {
		return outlook{verdict: no(ReasonPeerGone, "the link's other end is gone")}, nil
	} else if err != nil {
		return outlook{}, fmt.Errorf("read the other end of link %s: %w", printable(l.name), err)
	}
	// Numbers of links and namespaces are given again, so make sure.
	if peer.kind != l.kind || peer.other != l.index {
		return outlook{verdict: no(ReasonPeerGone, "link %d, where the other end was, does not lead back", l.other)}, nil
	}
	if !peer.lladdr.IsUnicast() {
		return outlook{verdict: no(ReasonZeroMAC, "the address of the link's other end is %q", peer.lladdr)}, nil
	}
	if peer.master == 0 {
		return outlook{verdict: verdict{lladdr: peer.lladdr, source: SourcePeer}}, nil
	}
	return t.outlookBeyond(ctx, peer, l.nsid)
}

// outlookBeyond judges an other end that belongs to another link.
func (t *Table) outlookBeyond(ctx context.Context, peer link, nsid int32) (outlook, error) {
	master, err := t.conn.link(ctx, peer.master, nsid)
	if gone(err) {
		return outlook{verdict: no(ReasonPeerGone, "the master of the link's other end is gone")}, nil
	} else if err != nil {
		return outlook{}, fmt.Errorf("read the master of link %s: %w", printable(peer.name), err)
	}
	v := beyond(peer, master)
	if !v.known() || v.source == SourcePeer {
		return outlook{verdict: v}, nil
	}
	if v, err := t.sameVLAN(ctx, peer, master, nsid); err != nil || !v.known() {
		return outlook{verdict: v}, err
	}
	return outlook{verdict: v, bridge: &master, nsid: nsid}, nil
}

// beyond says what a master means for the frames that its port takes in.
func beyond(port, master link) verdict {
	switch master.kind {
	case kindVRF:
		// It only chooses the routing table; frames end at the port.
		return verdict{lladdr: port.lladdr, source: SourcePeer}
	case kindBridge:
		return verdict{lladdr: port.lladdr, source: SourcePort}
	}
	return no(ReasonUnsupportedMaster, "the link's other end belongs to %s, which is %s", printable(master.name), master.what())
}

// judge says what the host knows about one gateway.
func (t *Table) judge(ctx context.Context, o outlook, dst netip.Addr) (verdict, error) {
	if !o.known() || o.bridge == nil {
		return o.verdict, nil
	}
	held, err := t.conn.holds(ctx, o.bridge.index, o.nsid, dst)
	switch {
	case gone(err):
		return no(ReasonPeerGone, "the bridge %s is gone", printable(o.bridge.name)), nil
	case err != nil:
		return verdict{}, fmt.Errorf("read the addresses of bridge %s: %w", printable(o.bridge.name), err)
	case !held:
		return no(ReasonRouterBeyondBridge, "the bridge %s does not hold the gateway's address, so the gateway is something beyond it",
			printable(o.bridge.name)), nil
	}
	return o.verdict, nil
}

// gone tells whether a link was not found: no such link, or no namespace of that
// number any more (rtnl_get_net_ns_capable gives EINVAL).
func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENXIO)
}
