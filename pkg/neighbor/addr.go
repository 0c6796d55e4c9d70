// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
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

// parseAddr reads the body of RTM_NEWADDR or RTM_DELADDR. The library's reader is
// not exported and can not ask another namespace.
func parseAddr(body []byte) (a ifaddr, err error) {
	defer refuse(&a, &err)
	msg := nl.DeserializeIfAddrmsg(body)
	attrs, err := nl.ParseRouteAttrAsMap(body[msg.Len():])
	if err != nil {
		return a, err
	}
	a = ifaddr{index: int(int32(msg.Index)), scope: msg.Scope, flags: uint32(msg.Flags)}
	if v, ok := attrs[unix.IFA_FLAGS]; ok {
		a.flags = binary.NativeEndian.Uint32(v.Value)
	}
	// On a point-to-point address IFA_ADDRESS is the other side's, and IFA_LOCAL
	// the own; IPv6 has IFA_LOCAL only then.
	own, ok := attrs[unix.IFA_LOCAL]
	if !ok {
		own = attrs[unix.IFA_ADDRESS]
	}
	if a.ip = address(own.Value); a.index <= 0 || !a.ip.IsValid() {
		return a, errMalformed
	}
	if other, ok := attrs[unix.IFA_ADDRESS]; ok {
		own = other
	}
	a.subnet, _ = address(own.Value).Prefix(int(msg.Prefixlen)) // or none
	return a, nil
}

// addrsRequest asks for the addresses of one family, of one link unless index is
// 0, in the socket's namespace or the one that it knows by a number.
func addrsRequest(family uint8, index int, nsid int32) *nl.NetlinkRequest {
	msg := nl.NewIfAddrmsg(int(family))
	msg.Index = uint32(index)
	r := newRequest(unix.RTM_GETADDR, 0, msg)
	if nsid != nsidNone {
		r.AddData(attr32(unix.IFA_TARGET_NETNSID, uint32(nsid)))
	}
	return r
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
