// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Protocol marks our entries (NDA_PROTOCOL, Linux 5.0), shown by `ip neigh` as
// "proto 177". It is a hint: whoever may change entries may set it, and the
// kernel keeps it when somebody else replaces the entry without naming one.
const Protocol = 177

// entry is one of the kernel's neighbor table.
type entry struct {
	dst      netip.Addr
	index    int
	state    uint16 // NUD_*
	lladdr   HardwareAddr
	protocol uint8
}

func (e entry) permanent() bool { return e.state&unix.NUD_PERMANENT != 0 }

// valid tells whether the entry's address is in use (NUD_VALID,
// include/net/neighbour.h).
func (e entry) valid() bool {
	return e.state&(unix.NUD_PERMANENT|unix.NUD_NOARP|unix.NUD_REACHABLE|
		unix.NUD_PROBE|unix.NUD_STALE|unix.NUD_DELAY) != 0
}

// parseEntry reads the body of RTM_NEWNEIGH or RTM_DELNEIGH.
func parseEntry(body []byte) (entry, error) {
	a := readAttrs(body, unix.SizeofNdMsg)
	if a.err != nil {
		return entry{}, a.err
	}
	// struct ndmsg: family, pads (3), ifindex (4), state (2), flags, type
	e := entry{index: int(int32(binary.NativeEndian.Uint32(body[4:]))), state: binary.NativeEndian.Uint16(body[8:])}
	for a.next() {
		switch a.kind {
		case unix.NDA_DST:
			e.dst = a.addr()
		case unix.NDA_LLADDR:
			e.lladdr = hardwareAddr(a.value)
		case netlink.NDA_PROTOCOL:
			e.protocol = a.u8()
		}
	}
	if a.err != nil {
		return entry{}, a.err
	}
	return e, nil
}

// entriesRequest asks for all entries of one family, or of all with AF_UNSPEC.
func entriesRequest(family uint8) *request {
	return newRequest(unix.RTM_GETNEIGH, 0, family, unix.SizeofNdMsg)
}

// entryRequest is one about one entry.
func entryRequest(kind, flags int, dst netip.Addr, index int) *request {
	return newRequest(kind, flags, familyNumber(dst), unix.SizeofNdMsg).put32(4, uint32(index)).addr(unix.NDA_DST, dst)
}

// readRequest asks for one entry by its key (Linux 5.0), which costs the same
// however many there are.
func readRequest(dst netip.Addr, index int) *request {
	return entryRequest(unix.RTM_GETNEIGH, 0, dst, index)
}

// entry reads one entry; none gives the zero entry, whose state is NUD_NONE. So is
// that of an entry which nobody has used yet, such as the kernel makes for the
// router of an advertisement (net/ipv6/ndisc.c, ndisc_router_discovery); that one
// has a dst.
func (c *conn) entry(ctx context.Context, dst netip.Addr, index int) (entry, error) {
	e, err := get(ctx, c, readRequest(dst, index), parseEntry)
	if errors.Is(err, unix.ENOENT) {
		return entry{}, nil
	}
	return e, err
}

// setRequest makes an entry permanent. No NTF_* flags: Kata's policies refuse
// them, and NTF_USE would demote the entry (net/core/neighbour.c, neigh_add).
func setRequest(dst netip.Addr, index int, lladdr [hwaddrLen]byte, how int) *request {
	return entryRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|how, dst, index).put16(8, unix.NUD_PERMANENT).
		attr(unix.NDA_LLADDR, lladdr[:]).attr(netlink.NDA_PROTOCOL, []byte{Protocol})
}

func (c *conn) setEntry(ctx context.Context, dst netip.Addr, index int, lladdr [hwaddrLen]byte, how int) error {
	return c.set(ctx, setRequest(dst, index, lladdr, how))
}

// removeEntry removes an entry, whatever it is.
func (c *conn) removeEntry(ctx context.Context, dst netip.Addr, index int) error {
	return c.set(ctx, entryRequest(unix.RTM_DELNEIGH, 0, dst, index))
}
