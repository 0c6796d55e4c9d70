// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"net/netip"

	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// Neighbor is an entry of a neighbor table, as it is pinned or to be pinned.
type Neighbor struct {
	Dst    netip.Addr   `json:"dst"`    // the gateway, without a zone
	Dev    string       `json:"dev"`    // name of the link inside the namespace
	LLAddr HardwareAddr `json:"lladdr"` // the gateway's link-layer address

	// Family names the table that the entry lives in, "inet" or "inet6". An
	// IPv4 route by way of an IPv6 gateway uses the IPv6 table.
	Family string `json:"family"`

	// State is what the kernel's entry is now, in the words of `ip -json
	// neigh`: PERMANENT when pinned, NONE when there is no entry.
	State []string `json:"state"`

	// Source says where LLAddr comes from.
	Source Source `json:"source"`
}

// Permanent tells whether the entry was permanent when it was read.
func (n Neighbor) Permanent() bool {
	return len(n.State) == 1 && n.State[0] == rtnetlink.StatePermanent
}

// Same tells whether both mean the same entry with the same address, whatever
// its state and source.
func (n Neighbor) Same(o Neighbor) bool {
	return n.Dst == o.Dst && n.Dev == o.Dev && n.LLAddr == o.LLAddr
}

// Source says why a link-layer address is taken for the gateway's.
type Source string

const (
	// SourcePeer: the link is a veth or netkit pair, and its other end hands
	// what it receives to the IP stack of its namespace. The address is the
	// other end's.
	SourcePeer Source = "peer"

	// SourcePort: the other end is a port of a Linux bridge that holds the
	// gateway's IP address. The address is the port's own, which the bridge
	// takes as its own for as long as the port is there (net/bridge/br_fdb.c,
	// br_fdb_add_local), whereas the bridge's address changes with its ports.
	SourcePort Source = "port"

	// SourceExisting: somebody else had made a permanent entry before. It is
	// listed as it is and never written.
	SourceExisting Source = "existing"

	// SourceHost: the other end is a port of a Linux bridge, and beside that
	// bridge a link of its namespace holds the gateway's IP address and is on the
	// same VLAN: a VLAN link upon the bridge, or the far end of a veth pair whose
	// near end is a port of it too. The address is that link's.
	SourceHost Source = "host"

	// SourceLearned: the host knows nothing, and the caller has asked on the
	// wire (package probe) and got answers that agreed. Nothing protects these answers.
	SourceLearned Source = "learned"
)

// Protocol marks our entries (NDA_PROTOCOL, Linux 5.0), shown by `ip neigh` as
// "proto 177". It is a hint: whoever may change entries may set it, and the
// kernel keeps it when somebody else replaces the entry without naming one.
const Protocol = 177

// Families in the words of `ip -json`.
const (
	FamilyInet  = "inet"
	FamilyInet6 = "inet6"
)

// FamilyOf is the family of a gateway in these words.
func FamilyOf(addr netip.Addr) string {
	if addr.Is4() {
		return FamilyInet
	}
	return FamilyInet6
}
