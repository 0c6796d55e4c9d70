// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"context"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Attributes that x/sys does not name, of include/uapi/linux/rtnetlink.h and
// nexthop.h.
const (
	rtaNexthopID = 30 // RTA_NH_ID
	nhaFDB       = 11 // NHA_FDB
)

// Hop is one way out of a route: by a gateway on a link.
type Hop struct {
	Gateway netip.Addr // invalid: the destination itself is on the link
	Index   int        // the link
	Dead    bool       // its link is down, so the kernel does not use it
}

// Route is what a route message says.
type Route struct {
	Unicast bool         // it leads to stations, and not to the host itself or into nothing
	Cloned  bool         // a copy, in a cache or as an answer
	Default bool         // to everywhere
	Dst     netip.Prefix // invalid for a default route
	Metric  uint32
	Table   uint32
	Hops    []Hop
	Nexthop uint32 // number of the nexthop object, or 0
}

// ParseRoute reads the body of RTM_NEWROUTE.
func ParseRoute(body []byte) (Route, error) {
	a := readAttrs(body, unix.SizeofRtMsg)
	if a.err != nil {
		return Route{}, a.err
	}
	// struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags (4)
	flags := binary.NativeEndian.Uint32(body[8:])
	r := Route{Default: body[1] == 0, Table: uint32(body[4]), Unicast: body[7] == unix.RTN_UNICAST, Cloned: flags&unix.RTM_F_CLONED != 0}
	single := Hop{Dead: flags&unix.RTNH_F_DEAD != 0}
	for a.next() {
		switch a.kind {
		case unix.RTA_TABLE:
			r.Table = a.u32()
		case unix.RTA_PRIORITY:
			r.Metric = a.u32()
		case unix.RTA_DST:
			r.Dst, _ = a.addr().Prefix(int(body[1])) // or none
		case rtaNexthopID:
			r.Nexthop = a.u32()
		case unix.RTA_OIF:
			single.Index = a.index()
		case unix.RTA_MULTIPATH:
			r.Hops, a.err = parseMultipath(a.value)
		default:
			single.attr(&a)
		}
	}
	if a.err != nil {
		return Route{}, a.err
	}
	// A route has either several hops or one, with an exception: IPv6 repeats
	// the first hop's link beside the list in some versions.
	if len(r.Hops) == 0 && single.Index != 0 {
		r.Hops = []Hop{single}
	}
	return r, nil
}

// attr takes what an attribute says about the gateway of one hop.
func (h *Hop) attr(a *attrs) {
	switch a.kind {
	case unix.RTA_GATEWAY:
		h.Gateway = a.addr()
	case unix.RTA_VIA: // a gateway of another family than the route's: struct rtvia
		if a.has(2) {
			h.Gateway = addressOf(binary.NativeEndian.Uint16(a.value), a.value[2:])
		}
	}
}

// parseMultipath reads RTA_MULTIPATH: struct rtnexthop, each followed by
// attributes of its own.
func parseMultipath(b []byte) (hops []Hop, err error) {
	for len(b) > 0 {
		if len(b) < unix.SizeofRtNexthop {
			return nil, ErrMalformed
		}
		// len (2), flags, hops, ifindex (4)
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtNexthop || length > len(b) {
			return nil, ErrMalformed
		}
		h := Hop{Index: int(int32(binary.NativeEndian.Uint32(b[4:]))), Dead: b[2]&unix.RTNH_F_DEAD != 0}
		a := readAttrs(b[:length], unix.SizeofRtNexthop)
		for a.next() {
			h.attr(&a)
		}
		if a.err != nil {
			return nil, a.err
		}
		hops = append(hops, h)
		b = b[min(align(length), len(b)):]
	}
	return hops, nil
}

// Nexthop is a nexthop object, which routes may name instead of a hop.
type Nexthop struct {
	Usable bool     // leads to other stations, and not into nothing or a forwarding table
	Hop    Hop      // of a plain one
	Group  []uint32 // members, for a group; they are never groups themselves (net/ipv4/nexthop.c, valid_group_nh)
}

// Sizes of structs in include/uapi/linux/nexthop.h.
const (
	sizeofNhmsg      = 8
	sizeofNexthopGrp = 8
)

// parseNexthop reads the body of RTM_NEWNEXTHOP.
func parseNexthop(body []byte) (Nexthop, error) {
	a := readAttrs(body, sizeofNhmsg)
	if a.err != nil {
		return Nexthop{}, a.err
	}
	// struct nhmsg: family, scope, protocol, reserved, flags (4)
	n := Nexthop{Usable: true, Hop: Hop{Dead: binary.NativeEndian.Uint32(body[4:])&unix.RTNH_F_DEAD != 0}}
	for a.next() {
		switch a.kind {
		case unix.NHA_BLACKHOLE, nhaFDB:
			n.Usable = false
		case unix.NHA_GATEWAY:
			n.Hop.Gateway = a.addr()
		case unix.NHA_OIF:
			n.Hop.Index = a.index()
		case unix.NHA_GROUP:
			// struct nexthop_grp: the member's number (4), its weight, reserved
			for b := a.value; len(b) >= sizeofNexthopGrp; b = b[sizeofNexthopGrp:] {
				n.Group = append(n.Group, binary.NativeEndian.Uint32(b))
			}
		}
	}
	if a.err != nil {
		return Nexthop{}, a.err
	}
	return n, nil
}

// routesRequest asks for the routes of one family, or of all with AF_UNSPEC.
func routesRequest(family uint8) *request {
	return newRequest(unix.RTM_GETROUTE, 0, family, unix.SizeofRtMsg)
}

func nexthopRequest(id uint32) *request {
	return newRequest(unix.RTM_GETNEXTHOP, 0, unix.AF_UNSPEC, sizeofNhmsg).attr32(unix.NHA_ID, id)
}

// Routes reads the routes of one family in every table, in the order of tables. With
// AF_UNSPEC these are all that the kernel has (net/core/rtnetlink.c, rtnl_dump_all);
// those of others than IP are passed over. See [Conn] for begin.
//
// Where a route is longer than the kernel lists the error is ErrTooLong, and not a
// list without it: but for AF_UNSPEC after another family has been refused, and then
// the kernel says nothing (rtnl_dumpit).
func (c *Conn) Routes(ctx context.Context, family uint8, begin func(), each func(Route)) error {
	return c.dump(ctx, routesRequest(family), begin, func(body []byte) error { return readRoute(body, each) })
}

// readRoute reads one message. Those of other families than IP may have a fixed part of
// their own (net/can/gw.c, struct rtcanmsg), and are passed over unread.
func readRoute(body []byte, each func(Route)) error {
	if len(body) > 0 && body[0] != unix.AF_INET && body[0] != unix.AF_INET6 {
		return nil
	}
	r, err := ParseRoute(body)
	if err == nil {
		each(r)
	}
	return err
}

// RouteTo reads the route that the kernel would take to an address.
func (c *Conn) RouteTo(ctx context.Context, dst netip.Addr) (Route, error) {
	r := routesRequest(FamilyOf(dst)).addr(unix.RTA_DST, dst)
	r.body()[1] = uint8(dst.BitLen()) // the length of dst
	return get(ctx, c, r, ParseRoute)
}

// Nexthop reads one nexthop object. The error wraps unix.ENOENT when there is none.
func (c *Conn) Nexthop(ctx context.Context, id uint32) (Nexthop, error) {
	return get(ctx, c, nexthopRequest(id), parseNexthop)
}
