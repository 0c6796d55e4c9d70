// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ifaddr is an IP address of a link.
type ifaddr struct {
	index int
	ip    netip.Addr
	bits  int
	scope uint8
	flags uint32 // IFA_F_*
}

// parseAddr reads the body of RTM_NEWADDR or RTM_DELADDR.
func parseAddr(body []byte) (ifaddr, error) {
	if len(body) < unix.SizeofIfAddrmsg {
		return ifaddr{}, errMalformed
	}
	// struct ifaddrmsg: family, prefixlen, flags, scope, index (4)
	a := ifaddr{bits: int(body[1]), flags: uint32(body[2]), scope: body[3]}
	index := int32(binary.NativeEndian.Uint32(body[4:]))
	if index <= 0 {
		return ifaddr{}, errMalformed
	}
	a.index = int(index)
	var local, address netip.Addr
	err := eachAttr(body[unix.SizeofIfAddrmsg:], func(kind uint16, v []byte) (err error) {
		switch kind {
		case unix.IFA_LOCAL:
			local, err = attrIP(v)
		case unix.IFA_ADDRESS:
			address, err = attrIP(v)
		case unix.IFA_FLAGS:
			a.flags, err = attrU32(v)
		}
		return err
	})
	if err != nil {
		return ifaddr{}, err
	}
	// On a point-to-point address IFA_ADDRESS is the other side's, and IFA_LOCAL
	// the own; IPv6 has IFA_LOCAL only then.
	a.ip = local
	if !a.ip.IsValid() {
		a.ip = address
	}
	if !a.ip.IsValid() || a.bits > a.ip.BitLen() {
		return ifaddr{}, errMalformed
	}
	return a, nil
}

// addrsRequest asks for the addresses of one family, of one link unless index is
// 0, in the socket's namespace or the one that it knows by a number.
func addrsRequest(family uint8, index int, nsid int32) request {
	body := make([]byte, unix.SizeofIfAddrmsg)
	body[0] = family
	binary.NativeEndian.PutUint32(body[4:], uint32(index))
	if nsid != nsidNone {
		body = appendAttr32(body, unix.IFA_TARGET_NETNSID, uint32(nsid))
	}
	return request{kind: unix.RTM_GETADDR, body: body}
}

// holds tells whether a link has an address. One that was found to be somebody
// else's (IFA_F_DADFAILED) is not in use.
func (c *conn) holds(ctx context.Context, index int, nsid int32, ip netip.Addr) (found bool, err error) {
	err = c.dump(ctx, addrsRequest(familyNumber(ip), index, nsid), func() { found = false },
		func(_ uint16, body []byte) error {
			a, err := parseAddr(body)
			if err != nil {
				return err
			}
			if a.index == index && a.ip == ip && a.flags&unix.IFA_F_DADFAILED == 0 {
				found = true
			}
			return nil
		})
	return found, err
}
