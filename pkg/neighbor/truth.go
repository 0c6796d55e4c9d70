// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Kinds of links, in the words of the kernel (rtnl_link_ops.kind).
const (
	kindVeth   = "veth"
	kindNetkit = "netkit"
	kindBridge = "bridge"
	kindVRF    = "vrf"
	kindVLAN   = "vlan"
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

// hostLinks reads links and addresses of another namespace, which the sandbox
// knows by a number.
type hostLinks interface {
	link(ctx context.Context, index int, nsid int32) (link, error)
	holds(ctx context.Context, index int, nsid int32, ip netip.Addr) (bool, error)
	holders(ctx context.Context, nsid int32, ip netip.Addr) (indices []int, err error)
}

// survey is one look at the host. It remembers for that long what was read, and
// what the answers rest on.
type survey struct {
	*Table
	links hostLinks
	basis []int // numbers of links outside the sandbox, each once
	// sought are the gateways whose holder outside matters, each once.
	sought []netip.Addr
	// readings are shared with other surveys; nil when nothing is.
	readings *Readings
}

func (t *Table) newSurvey() survey { return survey{Table: t, links: t.conn} }

// rest notes that the answer depends on a link outside the sandbox.
func (s *survey) rest(index int) {
	if !slices.Contains(s.basis, index) {
		s.basis = append(s.basis, index)
	}
}

// isHost tells whether the number by which the sandbox knows a namespace is that
// of the host.
func (s *survey) isHost(ctx context.Context, nsid int32) (bool, error) {
	self, err := s.hostNumber(ctx)
	return err == nil && self != nsidNone && self == nsid, err
}

// outlook is what the host knows about everything that is reached over one
// link of the sandbox.
type outlook struct {
	verdict          // for all gateways, unless segment is set
	segment *segment // has a say about each gateway
	nsid    int32    // the namespace that the other end is in, where there is one
}

// outlook follows a link to its other end. That is looked for in the namespace
// which the kernel says it is in, not in the host's.
func (s *survey) outlook(ctx context.Context, l link) (outlook, error) {
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
	s.rest(l.other)
	peer, err := s.links.link(ctx, l.other, l.nsid)
	if gone(err) {
		return outlook{verdict: no(ReasonPeerGone, "the link's other end is gone")}, nil
	} else if err != nil {
		return outlook{}, fmt.Errorf("read the other end of link %s: %w", printable(l.name), err)
	}
	// Numbers of links and namespaces are given again, so make sure.
	if peer.kind != l.kind || peer.other != l.index {
		return outlook{verdict: no(ReasonPeerGone, "link %d, where the other end was, does not lead back", l.other)}, nil
	}
	return s.outlookAt(ctx, peer, l.nsid)
}

// outlookAt judges an other end.
func (s *survey) outlookAt(ctx context.Context, peer link, nsid int32) (outlook, error) {
	if !peer.lladdr.IsUnicast() {
		return outlook{verdict: no(ReasonZeroMAC, "the address of the link's other end is %q", peer.lladdr)}, nil
	}
	if peer.master == 0 {
		return outlook{verdict: verdict{lladdr: peer.lladdr, source: SourcePeer}, nsid: nsid}, nil
	}
	return s.outlookBeyond(ctx, peer, nsid)
}

// outlookBeyond judges an other end that belongs to another link.
func (s *survey) outlookBeyond(ctx context.Context, peer link, nsid int32) (outlook, error) {
	s.rest(peer.master)
	master, err := s.links.link(ctx, peer.master, nsid)
	if gone(err) {
		return outlook{verdict: no(ReasonPeerGone, "the master of the link's other end is gone")}, nil
	} else if err != nil {
		return outlook{}, fmt.Errorf("read the master of link %s: %w", printable(peer.name), err)
	}
	v := beyond(peer, master)
	if !v.known() || v.source == SourcePeer {
		return outlook{verdict: v, nsid: nsid}, nil
	}
	seg, v, err := s.openSegment(ctx, peer, master, nsid)
	return outlook{verdict: v, segment: seg, nsid: nsid}, err
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
func (s *survey) judge(ctx context.Context, o outlook, dst netip.Addr) (verdict, error) {
	if o.segment == nil {
		return o.verdict, nil
	}
	if !slices.Contains(s.sought, dst) {
		s.sought = append(s.sought, dst)
	}
	return s.judgeSegment(ctx, *o.segment, dst)
}

// gone tells whether a link was not found: no such link, or no namespace of that
// number any more (rtnl_get_net_ns_capable gives EINVAL).
func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENXIO)
}
