// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// ifaddr is an IP address of a link.
type ifaddr struct {
	index  int
	ip     netip.Addr
	subnet netip.Prefix // what the address puts on the link
	scope  uint8
	flags  uint32 // IFA_F_*
}

// parseAddr reads the body of RTM_NEWADDR or RTM_DELADDR.
func parseAddr(body []byte) (ifaddr, error) {
	a := readAttrs(body, unix.SizeofIfAddrmsg)
	if a.err != nil {
		return ifaddr{}, a.err
	}
	// struct ifaddrmsg: family, prefixlen, flags, scope, index (4)
	addr := ifaddr{index: int(int32(binary.NativeEndian.Uint32(body[4:]))), scope: body[3], flags: uint32(body[2])}
	var local, other netip.Addr
	for a.next() {
		switch a.kind {
		case unix.IFA_FLAGS:
			addr.flags = a.u32()
		case unix.IFA_LOCAL:
			local = a.addr()
		case unix.IFA_ADDRESS:
			other = a.addr()
		}
	}
	// On a point-to-point address IFA_ADDRESS is the other side's, and IFA_LOCAL
	// the own; IPv6 has IFA_LOCAL only then.
	if addr.ip = local; !local.IsValid() {
		addr.ip = other
	}
	if !other.IsValid() {
		other = addr.ip
	}
	addr.subnet, _ = other.Prefix(int(body[1])) // or none
	if a.err == nil && (addr.index <= 0 || !addr.ip.IsValid()) {
		a.err = errMalformed
	}
	if a.err != nil {
		return ifaddr{}, a.err
	}
	return addr, nil
}

// addrsRequest asks for the addresses of one family, of one link unless index is
// 0, in the socket's namespace or the one that it knows by a number.
func addrsRequest(family uint8, index int, nsid int32) *request {
	return newRequest(unix.RTM_GETADDR, 0, family, unix.SizeofIfAddrmsg).put32(4, uint32(index)).target(unix.IFA_TARGET_NETNSID, nsid)
}

// holds tells whether a link has an address. One that was found to be somebody
// else's (IFA_F_DADFAILED) is not in use.
func (c *conn) holds(ctx context.Context, index int, nsid int32, ip netip.Addr) (found bool, err error) {
	err = c.dump(ctx, addrsRequest(familyNumber(ip), index, nsid), func() { found = false }, func(body []byte) error {
		a, err := parseAddr(body)
		found = found || err == nil && a.index == index && a.ip == ip && a.flags&unix.IFA_F_DADFAILED == 0
		return err
	})
	return found, err
}

// holders lists the links of a namespace that have an address, as holds does for
// one.
func (c *conn) holders(ctx context.Context, nsid int32, ip netip.Addr) (indices []int, err error) {
	err = c.dump(ctx, addrsRequest(familyNumber(ip), 0, nsid), func() { indices = nil }, func(body []byte) error {
		a, err := parseAddr(body)
		if err == nil && a.ip == ip && a.flags&unix.IFA_F_DADFAILED == 0 && !slices.Contains(indices, a.index) {
			indices = append(indices, a.index)
		}
		return err
	})
	return indices, err
}
