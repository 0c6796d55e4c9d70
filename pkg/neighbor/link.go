// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"encoding/binary"

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
func parseLink(body []byte) (link, error) {
	a := readAttrs(body, unix.SizeofIfInfomsg)
	if a.err != nil {
		return link{}, a.err
	}
	// struct ifinfomsg: family, pad, type (2), index (4), flags (4), change (4)
	l := link{index: int(int32(binary.NativeEndian.Uint32(body[4:]))), flags: binary.NativeEndian.Uint32(body[8:]), nsid: nsidNone}
	for a.next() {
		switch a.kind {
		case unix.IFLA_IFNAME:
			l.name = string(a.text())
		case unix.IFLA_ADDRESS:
			if l.lladdr = hardwareAddr(a.value); l.lladdr == noStation {
				l.lladdr = "" // the loopback's
			}
		case unix.IFLA_LINK:
			l.other = a.index()
		case unix.IFLA_LINK_NETNSID:
			l.hasNSID, l.nsid = true, int32(a.u32())
		case unix.IFLA_MASTER:
			l.master = a.index()
		case unix.IFLA_LINKINFO:
			a.err = l.info(a.inner())
		case unix.IFLA_AF_SPEC:
			l.inet6, a.err = takesInet6(a.inner())
		}
	}
	if a.err == nil && l.index <= 0 {
		a.err = errMalformed
	}
	if a.err != nil {
		return link{}, a.err
	}
	return l, nil
}

// info reads IFLA_LINKINFO: the kind, and then what means something for that kind.
func (l *link) info(a attrs) error {
	for a.next() {
		switch a.kind {
		case nl.IFLA_INFO_KIND:
			l.kind = kindName(a.text())
		case nl.IFLA_INFO_DATA:
			a.err = l.ofKind(a.inner())
		}
	}
	return a.err
}

func (l *link) ofKind(a attrs) error {
	for a.next() {
		switch {
		case l.kind == kindBridge && a.kind == nl.IFLA_BR_VLAN_FILTERING:
			l.vlanFiltering = a.u8() == 1
		case l.kind == kindBridge && a.kind == nl.IFLA_BR_VLAN_PROTOCOL, l.kind == kindVLAN && a.kind == nl.IFLA_VLAN_PROTOCOL:
			l.vlanProtocol = a.be16()
		case l.kind == kindVLAN && a.kind == nl.IFLA_VLAN_ID:
			l.vlan = a.u16()
		}
	}
	return a.err
}

// kindName makes no new string of the kinds that are everywhere.
func kindName(b []byte) string {
	switch string(b) {
	case kindVeth:
		return kindVeth
	case kindBridge:
		return kindBridge
	}
	return string(b)
}

// takesInet6 finds out about IPv6 in IFLA_AF_SPEC. The family is listed only while
// the link has IPv6 state at all, which it loses below an MTU of 1280
// (net/ipv6/addrconf.c, addrconf_notify).
func takesInet6(spec attrs) (takes bool, err error) {
	for spec.next() {
		if spec.kind != unix.AF_INET6 {
			continue
		}
		takes = true
		conf := spec.inner()
		for conf.next() {
			if conf.kind == unix.IFLA_INET6_CONF && len(conf.value) >= 4*(devconfDisableIPv6+1) {
				takes = binary.NativeEndian.Uint32(conf.value[4*devconfDisableIPv6:]) == 0
			}
		}
		if conf.err != nil {
			return false, conf.err
		}
	}
	return takes && spec.err == nil, spec.err
}

// linksRequest asks for every link of the socket's namespace, or of the one that
// it knows by a number.
func linksRequest(nsid int32) *request {
	return newRequest(unix.RTM_GETLINK, 0, unix.AF_UNSPEC, unix.SizeofIfInfomsg).
		attr32(unix.IFLA_EXT_MASK, filterSkipStats).target(unix.IFLA_TARGET_NETNSID, nsid)
}

// linkNameRequest asks for one link by name.
func linkNameRequest(name string) *request {
	return linksRequest(nsidNone).attr(unix.IFLA_IFNAME, append([]byte(name), 0))
}

// linkRequest asks for one link by number.
func linkRequest(index int, nsid int32) *request { return linksRequest(nsid).put32(4, uint32(index)) }

// link reads one link by number. With nsid other than nsidNone it is the link of
// the namespace that the socket's namespace knows by that number.
func (c *conn) link(ctx context.Context, index int, nsid int32) (link, error) {
	return get(ctx, c, linkRequest(index, nsid), parseLink)
}
