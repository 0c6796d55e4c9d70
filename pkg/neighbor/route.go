// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
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

// hop is one way out of a route: by a gateway on a link.
type hop struct {
	gateway netip.Addr // invalid: the destination itself is on the link
	index   int        // the link
	dead    bool       // its link is down, so the kernel does not use it
}

// route is what a route message says about gateways.
type route struct {
	usable    bool // a unicast route that is no copy in a cache
	isDefault bool // to everywhere
	table     uint32
	hops      []hop
	nexthop   uint32 // number of the nexthop object, or 0
}

// parseRoute reads the body of RTM_NEWROUTE.
func parseRoute(body []byte) (route, error) {
	a := readAttrs(body, unix.SizeofRtMsg)
	if a.err != nil {
		return route{}, a.err
	}
	// struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags (4)
	flags := binary.NativeEndian.Uint32(body[8:])
	r := route{isDefault: body[1] == 0, table: uint32(body[4]), usable: body[7] == unix.RTN_UNICAST && flags&unix.RTM_F_CLONED == 0}
	single := hop{dead: flags&unix.RTNH_F_DEAD != 0}
	for a.next() {
		switch a.kind {
		case unix.RTA_TABLE:
			r.table = a.u32()
		case rtaNexthopID:
			r.nexthop = a.u32()
		case unix.RTA_OIF:
			single.index = a.index()
		case unix.RTA_MULTIPATH:
			r.hops, a.err = parseMultipath(a.value)
		default:
			single.attr(&a)
		}
	}
	if a.err != nil {
		return route{}, a.err
	}
	// A route has either several hops or one, with an exception: IPv6 repeats
	// the first hop's link beside the list in some versions.
	if len(r.hops) == 0 && single.index != 0 {
		r.hops = []hop{single}
	}
	return r, nil
}

// attr takes what an attribute says about the gateway of one hop.
func (h *hop) attr(a *attrs) {
	switch a.kind {
	case unix.RTA_GATEWAY:
		h.gateway = a.addr()
	case unix.RTA_VIA: // a gateway of another family than the route's: struct rtvia
		if a.has(2) {
			h.gateway = addressOf(binary.NativeEndian.Uint16(a.value), a.value[2:])
		}
	}
}

// parseMultipath reads RTA_MULTIPATH: struct rtnexthop, each followed by
// attributes of its own.
func parseMultipath(b []byte) (hops []hop, err error) {
	for len(b) > 0 {
		if len(b) < unix.SizeofRtNexthop {
			return nil, errMalformed
		}
		// len (2), flags, hops, ifindex (4)
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtNexthop || length > len(b) {
			return nil, errMalformed
		}
		h := hop{index: int(int32(binary.NativeEndian.Uint32(b[4:]))), dead: b[2]&unix.RTNH_F_DEAD != 0}
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

// nexthop is a nexthop object, which routes may name instead of a hop.
type nexthop struct {
	usable bool     // leads to other stations, and not into nothing or a forwarding table
	hop    hop      // of a plain one
	group  []uint32 // members, for a group
}

// Sizes of structs in include/uapi/linux/nexthop.h.
const (
	sizeofNhmsg      = 8
	sizeofNexthopGrp = 8
)

// parseNexthop reads the body of RTM_NEWNEXTHOP.
func parseNexthop(body []byte) (nexthop, error) {
	a := readAttrs(body, sizeofNhmsg)
	if a.err != nil {
		return nexthop{}, a.err
	}
	// struct nhmsg: family, scope, protocol, reserved, flags (4)
	n := nexthop{usable: true, hop: hop{dead: binary.NativeEndian.Uint32(body[4:])&unix.RTNH_F_DEAD != 0}}
	for a.next() {
		switch a.kind {
		case unix.NHA_BLACKHOLE, nhaFDB:
			n.usable = false
		case unix.NHA_GATEWAY:
			n.hop.gateway = a.addr()
		case unix.NHA_OIF:
			n.hop.index = a.index()
		case unix.NHA_GROUP:
			// struct nexthop_grp: the member's number (4), its weight, reserved
			for b := a.value; len(b) >= sizeofNexthopGrp; b = b[sizeofNexthopGrp:] {
				n.group = append(n.group, binary.NativeEndian.Uint32(b))
			}
		}
	}
	if a.err != nil {
		return nexthop{}, a.err
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
