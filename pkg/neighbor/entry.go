// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Protocol marks our entries (NDA_PROTOCOL, Linux 5.0), shown by `ip neigh` as
// "proto 177". It is a hint: whoever may change entries may set it, and the
// kernel keeps it when somebody else replaces the entry without naming one.
const Protocol = 177

// ndaProtocol is NDA_PROTOCOL of include/uapi/linux/neighbour.h, which x/sys
// does not name.
const ndaProtocol = 12

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
	if len(body) < unix.SizeofNdMsg {
		return entry{}, errMalformed
	}
	// struct ndmsg: family, pads (3), ifindex (4), state (2), flags, type
	index := int32(binary.NativeEndian.Uint32(body[4:]))
	if index < 0 {
		return entry{}, errMalformed
	}
	e := entry{index: int(index), state: binary.NativeEndian.Uint16(body[8:])}
	err := eachAttr(body[unix.SizeofNdMsg:], func(kind uint16, v []byte) (err error) {
		switch kind {
		case unix.NDA_DST:
			e.dst, err = attrIP(v)
		case unix.NDA_LLADDR:
			e.lladdr = hardwareAddr(v)
		case ndaProtocol:
			e.protocol, err = attrU8(v)
		}
		return err
	})
	if err != nil {
		return entry{}, err
	}
	return e, nil
}

func appendNdMsg(dst netip.Addr, index int, state uint16) []byte {
	body := make([]byte, unix.SizeofNdMsg, 64)
	body[0] = familyNumber(dst)
	binary.NativeEndian.PutUint32(body[4:], uint32(index))
	binary.NativeEndian.PutUint16(body[8:], state)
	return appendAttr(body, unix.NDA_DST, dst.AsSlice())
}

// entry reads one entry; none gives the zero entry, whose state is NUD_NONE.
// Asking for one by its key (Linux 5.0) costs the same however many there are.
func (c *conn) entry(ctx context.Context, dst netip.Addr, index int) (e entry, err error) {
	r := request{kind: unix.RTM_GETNEIGH, body: appendNdMsg(dst, index, 0)}
	err = c.get(ctx, r, func(_ uint16, body []byte) error {
		e, err = parseEntry(body)
		return err
	})
	if errors.Is(err, unix.ENOENT) {
		return entry{}, nil
	}
	return e, err
}

// setEntry makes an entry permanent. No NTF_* flags: Kata's policies refuse
// them, and NTF_USE would demote the entry (net/core/neighbour.c, neigh_add).
func (c *conn) setEntry(ctx context.Context, dst netip.Addr, index int, lladdr [hwaddrLen]byte, how uint16) error {
	body := appendNdMsg(dst, index, unix.NUD_PERMANENT)
	body = appendAttr(body, unix.NDA_LLADDR, lladdr[:])
	body = appendAttr(body, ndaProtocol, []byte{Protocol})
	return c.set(ctx, request{kind: unix.RTM_NEWNEIGH, flags: unix.NLM_F_CREATE | how, body: body})
}

// removeEntry removes an entry, whatever it is.
func (c *conn) removeEntry(ctx context.Context, dst netip.Addr, index int) error {
	return c.set(ctx, request{kind: unix.RTM_DELNEIGH, body: appendNdMsg(dst, index, 0)})
}
