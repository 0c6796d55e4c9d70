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
	if len(body) < unix.SizeofRtMsg {
		return route{}, errMalformed
	}
	// struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
	r := route{
		isDefault: body[1] == 0,
		table:     uint32(body[4]),
		usable:    body[7] == unix.RTN_UNICAST,
	}
	flags := binary.NativeEndian.Uint32(body[8:])
	if flags&unix.RTM_F_CLONED != 0 {
		r.usable = false
	}
	single := hop{dead: flags&unix.RTNH_F_DEAD != 0}
	err := eachAttr(body[unix.SizeofRtMsg:], func(kind uint16, v []byte) (err error) {
		switch kind {
		case unix.RTA_TABLE:
			r.table, err = attrU32(v)
		case rtaNexthopID:
			r.nexthop, err = attrU32(v)
		case unix.RTA_MULTIPATH:
			r.hops, err = parseMultipath(v)
		default:
			err = single.attr(kind, v)
		}
		return err
	})
	if err != nil {
		return route{}, err
	}
	// A route has either several hops or one, with an exception: IPv6 repeats
	// the first hop's link beside the list in some versions.
	if len(r.hops) == 0 && single.index != 0 {
		r.hops = []hop{single}
	}
	return r, nil
}

// attr takes what an attribute says about one hop.
func (h *hop) attr(kind uint16, v []byte) (err error) {
	switch kind {
	case unix.RTA_OIF:
		h.index, err = attrIndex(v)
	case unix.RTA_GATEWAY:
		h.gateway, err = attrIP(v)
	case unix.RTA_VIA:
		// struct rtvia: the family in two bytes, then the address. It names a
		// gateway of another family than the route's.
		if len(v) < 2 {
			return errMalformed
		}
		switch binary.NativeEndian.Uint16(v) {
		case unix.AF_INET, unix.AF_INET6:
			h.gateway, err = attrIP(v[2:])
		}
	}
	return err
}

// parseMultipath reads RTA_MULTIPATH: struct rtnexthop (length, flags, weight,
// link), each followed by attributes of its own.
func parseMultipath(b []byte) ([]hop, error) {
	var hops []hop
	for len(b) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			return nil, errMalformed
		}
		index, err := attrIndex(b[4:])
		if err != nil {
			return nil, err
		}
		h := hop{index: index, dead: b[2]&unix.RTNH_F_DEAD != 0}
		if err := eachAttr(b[unix.SizeofRtNexthop:size], h.attr); err != nil {
			return nil, err
		}
		hops = append(hops, h)
		b = b[min(align(size), len(b)):]
	}
	if len(b) != 0 {
		return nil, errMalformed
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
	if len(body) < sizeofNhmsg {
		return nexthop{}, errMalformed
	}
	// struct nhmsg: family, scope, protocol, reserved, flags
	n := nexthop{usable: true}
	n.hop.dead = binary.NativeEndian.Uint32(body[4:])&unix.RTNH_F_DEAD != 0
	err := eachAttr(body[sizeofNhmsg:], func(kind uint16, v []byte) (err error) {
		switch kind {
		case unix.NHA_OIF:
			n.hop.index, err = attrIndex(v)
		case unix.NHA_GATEWAY:
			n.hop.gateway, err = attrIP(v)
		case unix.NHA_BLACKHOLE, nhaFDB:
			n.usable = false
		case unix.NHA_GROUP:
			// struct nexthop_grp: the member's number, its weight, reserved
			if len(v)%sizeofNexthopGrp != 0 {
				return errMalformed
			}
			for ; len(v) > 0; v = v[sizeofNexthopGrp:] {
				n.group = append(n.group, binary.NativeEndian.Uint32(v))
			}
		}
		return err
	})
	if err != nil {
		return nexthop{}, err
	}
	return n, nil
}

func routesRequest(family uint8) request {
	body := make([]byte, unix.SizeofRtMsg)
	body[0] = family
	return request{kind: unix.RTM_GETROUTE, body: body}
}

func nexthopRequest(id uint32) request {
	return request{kind: unix.RTM_GETNEXTHOP, body: appendAttr32(make([]byte, sizeofNhmsg), unix.NHA_ID, id)}
}
