// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Addr is an IP address of a link.
type Addr struct {
	Index  int // of the link
	IP     netip.Addr
	Subnet netip.Prefix // what the address puts on the link
	Scope  uint8        // RT_SCOPE_*
	Flags  uint32       // IFA_F_*
}

// Global tells whether the address is of global scope.
func (a Addr) Global() bool { return a.Scope == unix.RT_SCOPE_UNIVERSE }

// Taken tells that somebody else was found to have the address, which is then not in
// use (IFA_F_DADFAILED).
func (a Addr) Taken() bool { return a.Flags&unix.IFA_F_DADFAILED != 0 }

// Tentative tells that IPv6 has not finished to make sure that nobody else has it
// (RFC 4862, section 5.4).
func (a Addr) Tentative() bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 }

// ParseAddr reads the body of RTM_NEWADDR or RTM_DELADDR.
func ParseAddr(body []byte) (Addr, error) {
	a := readAttrs(body, unix.SizeofIfAddrmsg)
	if a.err != nil {
		return Addr{}, a.err
	}
	// struct Addrmsg: family, prefixlen, flags, scope, index (4)
	addr := Addr{Index: int(int32(binary.NativeEndian.Uint32(body[4:]))), Scope: body[3], Flags: uint32(body[2])}
	var local, other netip.Addr
	for a.next() {
		switch a.kind {
		case unix.IFA_FLAGS:
			addr.Flags = a.u32()
		case unix.IFA_LOCAL:
			local = a.addr()
		case unix.IFA_ADDRESS:
			other = a.addr()
		}
	}
	// On a point-to-point address IFA_ADDRESS is the other side's, and IFA_LOCAL
	// the own; IPv6 has IFA_LOCAL only then.
	if addr.IP = local; !local.IsValid() {
		addr.IP = other
	}
	if !other.IsValid() {
		other = addr.IP
	}
	addr.Subnet, _ = other.Prefix(int(body[1])) // or none
	if a.err == nil && (addr.Index <= 0 || !addr.IP.IsValid()) {
		a.err = ErrMalformed
	}
	if a.err != nil {
		return Addr{}, a.err
	}
	return addr, nil
}

// addrsRequest asks for the addresses of one family, of one link unless index is
// 0, in the socket's namespace or the one that it knows by a number.
func addrsRequest(family uint8, index int, nsid int32) *request {
	return newRequest(unix.RTM_GETADDR, 0, family, unix.SizeofIfAddrmsg).put32(4, uint32(index)).target(unix.IFA_TARGET_NETNSID, nsid)
}

// Addrs reads the addresses of one family, of one link unless index is 0, in the
// socket's namespace or the one that it knows by a number. See [Conn] for begin, and
// [NoFamily] for a kernel without IPv6.
func (c *Conn) Addrs(ctx context.Context, family uint8, index int, nsid int32, begin func(), each func(Addr)) error {
	return list(ctx, c, addrsRequest(family, index, nsid), ParseAddr, begin, each)
}

// Holders lists the links of a namespace, or one of them unless index is 0, that
// have an address which is in use.
func (c *Conn) Holders(ctx context.Context, index int, nsid int32, ip netip.Addr) (indices []int, err error) {
	err = c.Addrs(ctx, FamilyOf(ip), index, nsid, func() { indices = nil }, func(a Addr) {
		if a.IP == ip && !a.Taken() && (index == 0 || a.Index == index) && !slices.Contains(indices, a.Index) {
			indices = append(indices, a.Index)
		}
	})
	return indices, err
}
