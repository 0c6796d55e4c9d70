// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Key names an entry of a neighbor table by the kernel's measure.
type Key struct {
	Dst   netip.Addr
	Index int // of the link
}

// Entry is one of the kernel's neighbor tables, or of a bridge's or a tunnel's
// forwarding table, which has no Dst there.
type Entry struct {
	Key
	State    uint16 // NUD_*
	LLAddr   string // in the usual form; empty for none, or another length than Ethernet's
	Protocol uint8  // NDA_PROTOCOL; zero when nobody has named one
}

// Permanent tells whether the entry neither ages nor learns.
func (e Entry) Permanent() bool { return e.State&unix.NUD_PERMANENT != 0 }

// Valid tells whether the entry's address is in use (NUD_VALID,
// include/net/neighbour.h).
func (e Entry) Valid() bool {
	return e.State&(unix.NUD_PERMANENT|unix.NUD_NOARP|unix.NUD_REACHABLE|
		unix.NUD_PROBE|unix.NUD_STALE|unix.NUD_DELAY) != 0
}

// The two states that are not just one of the kernel's flags or matter here.
const (
	StatePermanent = "PERMANENT"
	StateNone      = "NONE"
)

// States puts the state into the words of iproute2 (ip/ipneigh.c), which lists all
// flags that are set.
func (e Entry) States() []string {
	names := [...]struct {
		bit  uint16
		name string
	}{
		{unix.NUD_INCOMPLETE, "INCOMPLETE"}, {unix.NUD_REACHABLE, "REACHABLE"}, {unix.NUD_STALE, "STALE"},
		{unix.NUD_DELAY, "DELAY"}, {unix.NUD_PROBE, "PROBE"}, {unix.NUD_FAILED, "FAILED"},
		{unix.NUD_NOARP, "NOARP"}, {unix.NUD_PERMANENT, StatePermanent},
	}
	state := e.State
	var list []string
	for _, n := range names {
		if state&n.bit != 0 {
			list = append(list, n.name)
			state &^= n.bit
		}
	}
	if state != 0 {
		list = append(list, fmt.Sprintf("0x%x", state))
	}
	if list == nil {
		return []string{StateNone}
	}
	return list
}

// ParseEntry reads the body of RTM_NEWNEIGH or RTM_DELNEIGH.
func ParseEntry(body []byte) (Entry, error) {
	a := readAttrs(body, unix.SizeofNdMsg)
	if a.err != nil {
		return Entry{}, a.err
	}
	// struct ndmsg: family, pads (3), ifindex (4), state (2), flags, type
	e := Entry{Key: Key{Index: int(int32(binary.NativeEndian.Uint32(body[4:])))}, State: binary.NativeEndian.Uint16(body[8:])}
	for a.next() {
		switch a.kind {
		case unix.NDA_DST:
			e.Dst = a.addr()
		case unix.NDA_LLADDR:
			e.LLAddr = lladdr(a.value)
		case netlink.NDA_PROTOCOL:
			e.Protocol = a.u8()
		}
	}
	if a.err != nil {
		return Entry{}, a.err
	}
	return e, nil
}

// entriesRequest asks for all entries of one family, or of all with AF_UNSPEC.
func entriesRequest(family uint8) *request {
	return newRequest(unix.RTM_GETNEIGH, 0, family, unix.SizeofNdMsg)
}

// entryRequest is one about one entry.
func entryRequest(kind, flags int, k Key) *request {
	return newRequest(kind, flags, FamilyOf(k.Dst), unix.SizeofNdMsg).put32(4, uint32(k.Index)).addr(unix.NDA_DST, k.Dst)
}

// readRequest asks for one entry by its key (Linux 5.0), which costs the same
// however many there are.
func readRequest(k Key) *request { return entryRequest(unix.RTM_GETNEIGH, 0, k) }

// Entries reads all entries of one family: AF_UNSPEC for IPv4 and IPv6, AF_BRIDGE for
// forwarding entries. See [Conn] for begin.
func (c *Conn) Entries(ctx context.Context, family uint8, begin func(), each func(Entry)) error {
	return list(ctx, c, entriesRequest(family), ParseEntry, begin, each)
}

// Entry reads one entry; none gives the zero Entry, whose state is NUD_NONE. So is
// that of an entry which nobody has used yet, such as the kernel makes for the
// router of an advertisement (net/ipv6/ndisc.c, ndisc_router_discovery); that one
// has a Dst.
func (c *Conn) Entry(ctx context.Context, k Key) (Entry, error) {
	e, err := get(ctx, c, readRequest(k), ParseEntry)
	if errors.Is(err, unix.ENOENT) {
		return Entry{}, nil
	}
	return e, err
}

// Pin is a permanent entry that is to be made.
type Pin struct {
	Key
	LLAddr   [6]byte
	Protocol uint8
}

// How says what becomes of an entry that is there already.
type How int

const (
	// IfAbsent leaves it alone, whatever it is, and gives EEXIST.
	IfAbsent How = unix.NLM_F_EXCL
	// IfSame leaves a valid one with another address alone, and says so to nobody
	// (net/core/neighbour.c, __neigh_update).
	IfSame How = 0
	// Replace writes over it.
	Replace How = unix.NLM_F_REPLACE
)

// request makes the entry permanent. No NTF_* flags: Kata's policies refuse them,
// and NTF_USE would demote the entry (net/core/neighbour.c, neigh_add).
func (p Pin) request(how How) *request {
	return entryRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|int(how), p.Key).put16(8, unix.NUD_PERMANENT).
		attr(unix.NDA_LLADDR, p.LLAddr[:]).attr(netlink.NDA_PROTOCOL, []byte{p.Protocol})
}

// SetEntry makes one entry permanent.
func (c *Conn) SetEntry(ctx context.Context, p Pin, how How) error { return c.set(ctx, p.request(how)) }

// AddEntries makes entries permanent where there are none, in one go: at most AtOnce. It
// gives each one's refusal to refused, EEXIST where there is an entry. That of all
// but the last is only told by the kernel if there is one.
func (c *Conn) AddEntries(ctx context.Context, n int, pin func(i int) Pin, refused func(i int, err error)) error {
	requests := make([]*request, n)
	for i := range requests {
		requests[i] = pin(i).request(IfAbsent)
	}
	requests[n-1].flag(unix.NLM_F_ACK)
	return c.exchange(ctx, func(i int, _ []byte, err error) { refused(i, err) }, requests...)
}

// RemoveEntry removes an entry, whatever it is.
func (c *Conn) RemoveEntry(ctx context.Context, k Key) error {
	return c.set(ctx, entryRequest(unix.RTM_DELNEIGH, 0, k))
}
