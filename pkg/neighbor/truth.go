// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"net/netip"
	"slices"

	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// truth is what is known about a gateway from outside the sandbox: by the host,
// or else by the caller's own probe.
func (r *resolver) truth(ctx context.Context, o outlook, dst netip.Addr, l rtnetlink.Link) (finding, error) {
	v, err := r.judge(ctx, o, dst)
	if err != nil {
		return finding{}, err
	}
	if !v.known() {
		if learned, ok := find(r.query.Learned, dst, l.Name); ok && v.reason.Learnable() && learned.LLAddr.IsUnicast() {
			return finding{lladdr: learned.LLAddr, source: SourceLearned}, nil
		}
		return v, nil
	}
	if !r.query.Running || r.wasSeen(dst, l.Name, v.lladdr) {
		return v, nil
	}
	// A sandbox that runs may have made a namespace, and in it the other end of
	// a link of its own.
	switch host, err := r.isHost(ctx, o.nsid); {
	case err != nil:
		return finding{}, err
	case !host:
		return no(ReasonPeerElsewhere, "the link's other end is in another namespace than the host's, and was not seen there before the sandbox ran"), nil
	}
	return v, nil
}

// find looks for an entry among those of the caller.
func find(list []Neighbor, dst netip.Addr, dev string) (Neighbor, bool) {
	i := slices.IndexFunc(list, func(n Neighbor) bool { return n.Dst == dst && n.Dev == dev })
	if i < 0 {
		return Neighbor{}, false
	}
	return list[i], true
}

// wasSeen tells whether the caller knows an entry of this very address, ours or
// somebody's.
func (r *resolver) wasSeen(dst netip.Addr, dev string, lladdr HardwareAddr) bool {
	return slices.ContainsFunc(r.query.Known, Neighbor{Dst: dst, Dev: dev, LLAddr: lladdr}.Same)
}

// isOurs tells whether a permanent entry is one that we made, or has taken the
// place of one, or a place that was nobody's, while the sandbox ran.
func (r *resolver) isOurs(k key, l rtnetlink.Link, e rtnetlink.Entry, v finding) bool {
	return e.Protocol == Protocol && v.known() && v.lladdr == HardwareAddr(e.LLAddr) ||
		r.query.Running && v.known() && slices.Contains(r.query.Vacant, Gateway{k.Dst, l.Name}) ||
		slices.ContainsFunc(r.query.Known, func(n Neighbor) bool {
			return n.Dst == k.Dst && n.Dev == l.Name && n.Source != SourceExisting && (r.query.Running || n.LLAddr == HardwareAddr(e.LLAddr))
		})
}

// existing turns somebody's permanent entry into a finding, given what is known
// from outside.
func (r *resolver) existing(k key, l rtnetlink.Link, e rtnetlink.Entry, v finding) finding {
	switch {
	case !HardwareAddr(e.LLAddr).IsUnicast():
		return no(ReasonInvalidEntry, "somebody's permanent entry has the address %q, which is no station's", e.LLAddr)
	case v.known() && v.lladdr != HardwareAddr(e.LLAddr):
		return contested(HardwareAddr(e.LLAddr), v)
	case !v.known() && r.query.Running && !r.wasSeen(k.Dst, l.Name, HardwareAddr(e.LLAddr)):
		return no(ReasonUnowned, "somebody's permanent entry says %s, but it was not there before the sandbox ran, and the host knows nothing (%s)",
			e.LLAddr, v.message)
	}
	return finding{lladdr: HardwareAddr(e.LLAddr), source: SourceExisting}
}

func contested(entry HardwareAddr, v finding) finding {
	who := "the host (" + string(v.source) + ")"
	if v.source == SourceLearned {
		who = "a probe"
	}
	return no(ReasonContested, "somebody's permanent entry says %s, %s says %s", entry, who, v.lladdr)
}
