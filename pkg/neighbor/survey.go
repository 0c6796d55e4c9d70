// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// finding is what the host knows about a gateway: an address with its source,
// or the reason for none.
type finding struct {
	lladdr  HardwareAddr
	source  Source
	reason  Reason
	message string
}

func (v finding) known() bool { return v.reason == "" }

func no(reason Reason, format string, args ...any) finding {
	return finding{reason: reason, message: fmt.Sprintf(format, args...)}
}

// hostLinks reads links and addresses of another namespace, which the sandbox
// knows by a number.
type hostLinks interface {
	Link(ctx context.Context, index int, nsid int32) (rtnetlink.Link, error)
	Holders(ctx context.Context, index int, nsid int32, ip netip.Addr) (indices []int, err error)
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
	return err == nil && self != rtnetlink.NSIDNone && self == nsid, err
}

// outlook is what the host knows about everything that is reached over one
// link of the sandbox.
type outlook struct {
	finding          // for all gateways, unless segment is set
	segment *segment // has a say about each gateway
	nsid    int32    // the namespace that the other end is in, where there is one
}

// outlook follows a link to its other end. That is looked for in the namespace
// which the kernel says it is in, not in the host's.
func (s *survey) outlook(ctx context.Context, l rtnetlink.Link) (outlook, error) {
	if !l.Pair() {
		return outlook{finding: no(ReasonUnsupportedLink,
			"the link is %s; only the other end of a veth or netkit pair is known to the host", kindOf(l))}, nil
	}
	if !HardwareAddr(l.LLAddr).IsUnicast() {
		return outlook{finding: no(ReasonZeroMAC, "the link's own address is %q", l.LLAddr)}, nil
	}
	switch {
	case l.Other == 0, l.HasNSID && l.NSID < 0:
		return outlook{finding: no(ReasonPeerGone, "the link's other end is gone")}, nil
	case !l.HasNSID:
		return outlook{finding: no(ReasonPeerInSandbox, "the link's other end is in the sandbox itself")}, nil
	}
	s.rest(l.Other)
	peer, err := s.links.Link(ctx, l.Other, l.NSID)
	if rtnetlink.Gone(err) {
		return outlook{finding: no(ReasonPeerGone, "the link's other end is gone")}, nil
	} else if err != nil {
		return outlook{}, fmt.Errorf("read the other end of link %s: %w", plain.Text(l.Name), err)
	}
	// Numbers of links and namespaces are given again, so make sure.
	if peer.Kind != l.Kind || peer.Other != l.Index {
		return outlook{finding: no(ReasonPeerGone, "link %d, where the other end was, does not lead back", l.Other)}, nil
	}
	return s.outlookAt(ctx, peer, l.NSID)
}

// outlookAt judges an other end.
func (s *survey) outlookAt(ctx context.Context, peer rtnetlink.Link, nsid int32) (outlook, error) {
	if !HardwareAddr(peer.LLAddr).IsUnicast() {
		return outlook{finding: no(ReasonZeroMAC, "the address of the link's other end is %q", peer.LLAddr)}, nil
	}
	if peer.Master == 0 {
		return outlook{finding: finding{lladdr: HardwareAddr(peer.LLAddr), source: SourcePeer}, nsid: nsid}, nil
	}
	return s.outlookBeyond(ctx, peer, nsid)
}

// outlookBeyond judges an other end that belongs to another link.
func (s *survey) outlookBeyond(ctx context.Context, peer rtnetlink.Link, nsid int32) (outlook, error) {
	s.rest(peer.Master)
	master, err := s.links.Link(ctx, peer.Master, nsid)
	if rtnetlink.Gone(err) {
		return outlook{finding: no(ReasonPeerGone, "the master of the link's other end is gone")}, nil
	} else if err != nil {
		return outlook{}, fmt.Errorf("read the master of link %s: %w", plain.Text(peer.Name), err)
	}
	v := beyond(peer, master)
	if !v.known() || v.source == SourcePeer {
		return outlook{finding: v, nsid: nsid}, nil
	}
	seg, v, err := s.openSegment(ctx, peer, master, nsid)
	return outlook{finding: v, segment: seg, nsid: nsid}, err
}

// beyond says what a master means for the frames that its port takes in.
func beyond(port, master rtnetlink.Link) finding {
	switch master.Kind {
	case rtnetlink.KindVRF:
		// It only chooses the routing table; frames end at the port.
		return finding{lladdr: HardwareAddr(port.LLAddr), source: SourcePeer}
	case rtnetlink.KindBridge:
		return finding{lladdr: HardwareAddr(port.LLAddr), source: SourcePort}
	}
	return no(ReasonUnsupportedMaster, "the link's other end belongs to %s, which is %s", plain.Text(master.Name), kindOf(master))
}

// judge says what the host knows about one gateway.
func (s *survey) judge(ctx context.Context, o outlook, dst netip.Addr) (finding, error) {
	if o.segment == nil {
		return o.finding, nil
	}
	if !slices.Contains(s.sought, dst) {
		s.sought = append(s.sought, dst)
	}
	return s.judgeSegment(ctx, *o.segment, dst)
}

// kindOf names the kind of a link in a sentence.
func kindOf(l rtnetlink.Link) string {
	if l.Kind == "" {
		return "hardware or of no kind"
	}
	return "a " + plain.Text(l.Kind)
}
