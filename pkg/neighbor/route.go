// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
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

// parseRoute reads the body of RTM_NEWROUTE. The library's reader, behind
// netlink.RouteListFilteredIter, does not know nexthop objects.
func parseRoute(body []byte) (r route, err error) {
	defer refuse(&r, &err)
	msg := nl.DeserializeRtMsg(body)
	attrs, err := nl.ParseRouteAttr(body[msg.Len():])
	if err != nil {
		return r, err
	}
	r = route{
		isDefault: msg.Dst_len == 0,
		table:     uint32(msg.Table),
		usable:    msg.Type == unix.RTN_UNICAST && msg.Flags&unix.RTM_F_CLONED == 0,
	}
	single := hop{dead: msg.Flags&unix.RTNH_F_DEAD != 0}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_TABLE:
			r.table = binary.NativeEndian.Uint32(a.Value)
		case rtaNexthopID:
			r.nexthop = binary.NativeEndian.Uint32(a.Value)
		case unix.RTA_OIF:
			single.index = int(int32(binary.NativeEndian.Uint32(a.Value)))
		case unix.RTA_MULTIPATH:
			if r.hops, err = parseMultipath(a.Value); err != nil {
				return r, err
			}
		default:
			single.attr(a)
		}
	}
	// A route has either several hops or one, with an exception: IPv6 repeats
	// the first hop's link beside the list in some versions.
	if len(r.hops) == 0 && single.index != 0 {
		r.hops = []hop{single}
	}
	return r, nil
}

// attr takes what an attribute says about the gateway of one hop.
func (h *hop) attr(a syscall.NetlinkRouteAttr) {
	switch a.Attr.Type {
	case unix.RTA_GATEWAY:
		h.gateway = address(a.Value)
	case unix.RTA_VIA: // a gateway of another family than the route's
		var via netlink.Via
		if via.Decode(a.Value) == nil { // or of neither
			h.gateway = address(via.Addr)
		}
	}
}

// parseMultipath reads RTA_MULTIPATH: struct rtnexthop, each followed by
// attributes of its own.
func parseMultipath(b []byte) (hops []hop, err error) {
	for len(b) > 0 {
		next := nl.DeserializeRtNexthop(b).RtNexthop
		attrs, err := nl.ParseRouteAttr(b[unix.SizeofRtNexthop:next.Len])
		if err != nil {
			return nil, err
		}
		h := hop{index: int(next.Ifindex), dead: next.Flags&unix.RTNH_F_DEAD != 0}
		for _, a := range attrs {
			h.attr(a)
		}
		hops = append(hops, h)
		b = b[next.Len:]
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
func parseNexthop(body []byte) (n nexthop, err error) {
	defer refuse(&n, &err)
	attrs, err := nl.ParseRouteAttrAsMap(body[sizeofNhmsg:])
	if err != nil {
		return n, err
	}
	_, blackhole := attrs[unix.NHA_BLACKHOLE]
	_, fdb := attrs[nhaFDB]
	n.usable = !blackhole && !fdb
	// struct nhmsg: family, scope, protocol, reserved, flags
	n.hop.dead = binary.NativeEndian.Uint32(body[4:])&unix.RTNH_F_DEAD != 0
	n.hop.gateway = address(attrs[unix.NHA_GATEWAY].Value)
	if v, ok := attrs[unix.NHA_OIF]; ok {
		n.hop.index = int(int32(binary.NativeEndian.Uint32(v.Value)))
	}
	// struct nexthop_grp: the member's number, its weight, reserved
	for member := range slices.Chunk(attrs[unix.NHA_GROUP].Value, sizeofNexthopGrp) {
		n.group = append(n.group, binary.NativeEndian.Uint32(member))
	}
	return n, nil
}

func routesRequest(family uint8) *nl.NetlinkRequest {
	return newRequest(unix.RTM_GETROUTE, 0, &nl.RtMsg{RtMsg: unix.RtMsg{Family: family}})
}

func nexthopRequest(id uint32) *nl.NetlinkRequest {
	r := newRequest(unix.RTM_GETNEXTHOP, 0)
	r.AddRawData(make([]byte, sizeofNhmsg))
	r.AddRawData(attr32(unix.NHA_ID, id).Serialize())
	return r
}
