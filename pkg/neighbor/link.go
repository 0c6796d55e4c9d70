// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"encoding/binary"
	"iter"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Positions that x/sys does not name: DEVCONF_DISABLE_IPV6
// (include/uapi/linux/ipv6.h), RTEXT_FILTER_SKIP_STATS
// (include/uapi/linux/rtnetlink.h).
const (
	devconfDisableIPv6 = 26
	filterSkipStats    = 1 << 3
)

// Namespace numbers as a namespace gives them to others. Minus one is the
// kernel's word for none (NETNSA_NSID_NOT_ASSIGNED).
const nsidNone = -1

// link is what a link message says, as far as it matters here.
type link struct {
	index  int
	name   string
	flags  uint32 // IFF_*
	lladdr HardwareAddr
	kind   string // "veth", "bridge", …; empty for hardware
	master int    // number of the link it is a port of, or 0

	// The link that this one rests on, and the namespace that it is in: for a
	// veth or netkit, its other end. hasNSID false: in the same namespace.
	other   int
	hasNSID bool
	nsid    int32

	inet6 bool // the link takes part in IPv6

	vlanFiltering bool   // of a bridge
	vlanProtocol  uint16 // of a VLAN link or a bridge that filters: the tag's Ethernet type
	vlan          uint16 // of a VLAN link
}

func (l link) loopback() bool { return l.flags&unix.IFF_LOOPBACK != 0 }
func (l link) noARP() bool    { return l.flags&unix.IFF_NOARP != 0 }
func (l link) up() bool       { return l.flags&unix.IFF_UP != 0 }

// what names the kind of link in a sentence.
func (l link) what() string {
	if l.kind == "" {
		return "hardware or of no kind"
	}
	return "a " + printable(l.kind)
}

// parseLink reads the body of RTM_NEWLINK or RTM_DELLINK.
func parseLink(body []byte) (l link, err error) {
	defer refuse(&l, &err)
	if promisesTooMuch(body) {
		return l, errMalformed
	}
	read, err := netlink.LinkDeserialize(nil, body)
	if err != nil {
		return l, err
	}
	a := read.Attrs()
	if a.Index <= 0 {
		return l, errMalformed
	}
	l = link{index: a.Index, name: a.Name, flags: a.RawFlags, lladdr: hardwareAddr(a.HardwareAddr),
		master: a.MasterIndex, other: a.ParentIndex,
		// The library's word for no number is -1, and the kernel's own -1 is
		// 1<<32 - 1 to it.
		hasNSID: a.NetNsID != nsidNone, nsid: int32(a.NetNsID)}
	switch read := read.(type) {
	case *netlink.Device: // no kind
	case *netlink.Bridge:
		l.kind, l.vlanFiltering = kindBridge, read.VlanFiltering != nil && *read.VlanFiltering
		// The library leaves it out.
		v, err := inside(body[unix.SizeofIfInfomsg:], unix.IFLA_LINKINFO, nl.IFLA_INFO_DATA, nl.IFLA_BR_VLAN_PROTOCOL)
		if err != nil {
			return l, err
		}
		if len(v) == 2 {
			l.vlanProtocol = binary.BigEndian.Uint16(v)
		}
	case *netlink.Vlan:
		l.kind, l.vlan, l.vlanProtocol = kindVLAN, uint16(read.VlanId), uint16(read.VlanProtocol)
	default:
		l.kind = read.Type()
	}
	l.inet6, err = takesInet6(body)
	return l, err
}

// promisesTooMuch tells whether a macvlan claims to list more addresses than the
// message has room for. The library makes that much room in memory first
// (netlink.parseMacvlanData): up to 96 GiB, of which no process recovers.
func promisesTooMuch(body []byte) bool {
	for info := range each(body[unix.SizeofIfInfomsg:], unix.IFLA_LINKINFO) {
		for data := range each(info, nl.IFLA_INFO_DATA) {
			for count := range each(data, nl.IFLA_MACVLAN_MACADDR_COUNT) {
				// A shorter one the library reads together with what follows it.
				if (len(count) < 4 || binary.NativeEndian.Uint32(count) > uint32(len(body))) && isMacvlan(info) {
					return true
				}
			}
		}
	}
	return false
}

// isMacvlan tells whether one of a link's kinds, as the library reads them, is such.
func isMacvlan(info []byte) bool {
	for kind := range each(info, nl.IFLA_INFO_KIND) {
		if strings.HasPrefix(string(kind), "macv") { // macvlan, macvtap
			return true
		}
	}
	return false
}

// each goes through the values of all attributes of a kind, as far as they can be
// read.
func each(level []byte, kind uint16) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		attrs, err := nl.ParseRouteAttr(level)
		if err != nil {
			return
		}
		for _, a := range attrs {
			if a.Attr.Type == kind && !yield(a.Value) {
				return
			}
		}
	}
}

// takesInet6 finds out about IPv6, which the library leaves out. The family is
// listed only while the link has IPv6 state at all, which it loses below an MTU
// of 1280 (net/ipv6/addrconf.c, addrconf_notify).
func takesInet6(body []byte) (bool, error) {
	spec, err := inside(body[unix.SizeofIfInfomsg:], unix.IFLA_AF_SPEC, unix.AF_INET6)
	if err != nil || spec == nil {
		return false, err
	}
	conf, err := inside(spec, unix.IFLA_INET6_CONF)
	if err != nil || len(conf) < 4*(devconfDisableIPv6+1) {
		return err == nil, err
	}
	return binary.NativeEndian.Uint32(conf[4*devconfDisableIPv6:]) == 0, nil
}

// inside finds an attribute within others, which kinds name from the outermost
// on. Nil means that it is not there.
func inside(level []byte, kinds ...uint16) ([]byte, error) {
	for _, kind := range kinds {
		attrs, err := nl.ParseRouteAttr(level)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(attrs, func(a syscall.NetlinkRouteAttr) bool { return a.Attr.Type == kind })
		if i < 0 {
			return nil, nil
		}
		level = attrs[i].Value
	}
	return level, nil
}

// linksRequest asks for every link of the socket's namespace.
func linksRequest() *nl.NetlinkRequest {
	return newRequest(unix.RTM_GETLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC), attr32(unix.IFLA_EXT_MASK, filterSkipStats))
}

// linkNameRequest asks for one link by name.
func linkNameRequest(name string) *nl.NetlinkRequest {
	r := linksRequest()
	r.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	return r
}

// link reads one link by number. With nsid other than nsidNone it is the link of
// the namespace that the socket's namespace knows by that number.
func (c *conn) link(ctx context.Context, index int, nsid int32) (link, error) {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	r := newRequest(unix.RTM_GETLINK, 0, msg, attr32(unix.IFLA_EXT_MASK, filterSkipStats))
	if nsid != nsidNone {
		r.AddData(attr32(unix.IFLA_TARGET_NETNSID, uint32(nsid)))
	}
	return get(ctx, c, r, parseLink)
}
