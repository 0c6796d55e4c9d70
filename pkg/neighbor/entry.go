// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
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

// parseEntry reads the body of RTM_NEWNEIGH or RTM_DELNEIGH. The library's
// netlink.NeighDeserialize has no NDA_PROTOCOL, and for an entry with 16 bytes of
// address it opens a socket in whatever namespace it is called in.
func parseEntry(body []byte) (e entry, err error) {
	defer refuse(&e, &err)
	attrs, err := nl.ParseRouteAttrAsMap(body[unix.SizeofNdMsg:])
	if err != nil {
		return e, err
	}
	// struct ndmsg: family, pads (3), ifindex (4), state (2), flags, type
	e = entry{dst: address(attrs[netlink.NDA_DST].Value), lladdr: hardwareAddr(attrs[netlink.NDA_LLADDR].Value),
		index: int(int32(binary.NativeEndian.Uint32(body[4:]))), state: binary.NativeEndian.Uint16(body[8:])}
	if v, ok := attrs[netlink.NDA_PROTOCOL]; ok {
		e.protocol = v.Value[0]
	}
	return e, nil
}

func entryRequest(kind, flags int, dst netip.Addr, index int, state uint16) *nl.NetlinkRequest {
	return newRequest(kind, flags, &netlink.Ndmsg{Family: familyNumber(dst), Index: uint32(index), State: state},
		nl.NewRtAttr(netlink.NDA_DST, dst.AsSlice()))
}

// entry reads one entry; none gives the zero entry, whose state is NUD_NONE. So is
// that of an entry which nobody has used yet, such as the kernel makes for the
// router of an advertisement (net/ipv6/ndisc.c, ndisc_router_discovery); that one
// has a dst. Asking for one by its key (Linux 5.0) costs the same however many
// there are.
func (c *conn) entry(ctx context.Context, dst netip.Addr, index int) (entry, error) {
	e, err := get(ctx, c, entryRequest(unix.RTM_GETNEIGH, 0, dst, index, 0), parseEntry)
	if errors.Is(err, unix.ENOENT) {
		return entry{}, nil
	}
	return e, err
}

// setEntry makes an entry permanent. No NTF_* flags: Kata's policies refuse
// them, and NTF_USE would demote the entry (net/core/neighbour.c, neigh_add).
func (c *conn) setEntry(ctx context.Context, dst netip.Addr, index int, lladdr [hwaddrLen]byte, how int) error {
	r := entryRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|how, dst, index, unix.NUD_PERMANENT)
	r.AddData(nl.NewRtAttr(netlink.NDA_LLADDR, lladdr[:]))
	r.AddData(nl.NewRtAttr(netlink.NDA_PROTOCOL, []byte{Protocol}))
	return c.set(ctx, r)
}

// removeEntry removes an entry, whatever it is.
func (c *conn) removeEntry(ctx context.Context, dst netip.Addr, index int) error {
	return c.set(ctx, entryRequest(unix.RTM_DELNEIGH, 0, dst, index, 0))
}
