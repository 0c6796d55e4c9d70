// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"context"
	"encoding/binary"
	"errors"

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

// Kinds of links, in the words of the kernel (rtnl_link_ops.kind).
const (
	KindVeth   = "veth"
	KindNetkit = "netkit"
	KindBridge = "bridge"
	KindVRF    = "vrf"
	KindVLAN   = "vlan"
)

// Link is what a link message says, as far as it matters to anybody here.
type Link struct {
	Index  int
	Name   string // any bytes but '/', ':' and white space
	Flags  uint32 // IFF_*
	LLAddr string // in the usual form; empty for none, zeros, or another length than Ethernet's
	Kind   string // "veth", "bridge", …; empty for hardware
	Master int    // number of the link it is a port of, or 0

	// The link that this one rests on, and the namespace that it is in: for a
	// veth or netkit, its other end. HasNSID false: in the same namespace.
	Other   int
	HasNSID bool
	NSID    int32

	Inet6 bool // the link takes part in IPv6

	VLANFiltering bool   // of a bridge
	VLANProtocol  uint16 // of a VLAN link or a bridge that filters: the tag's Ethernet type
	VLAN          uint16 // of a VLAN link
}

// Loopback tells whether it is the namespace's own link to itself, of which there is
// one.
func (l Link) Loopback() bool { return l.Flags&unix.IFF_LOOPBACK != 0 }

// NoARP tells that it resolves no addresses.
func (l Link) NoARP() bool { return l.Flags&unix.IFF_NOARP != 0 }

// Up tells that it is administratively up.
func (l Link) Up() bool { return l.Flags&unix.IFF_UP != 0 }

// Pair tells whether it is one end of a pair.
func (l Link) Pair() bool { return l.Kind == KindVeth || l.Kind == KindNetkit }

// ParseLink reads the body of RTM_NEWLINK or RTM_DELLINK.
func ParseLink(body []byte) (Link, error) {
	a := readAttrs(body, unix.SizeofIfInfomsg)
	if a.err != nil {
		return Link{}, a.err
	}
	// struct ifinfomsg: family, pad, type (2), index (4), flags (4), change (4)
	l := Link{Index: int(int32(binary.NativeEndian.Uint32(body[4:]))), Flags: binary.NativeEndian.Uint32(body[8:]), NSID: NSIDNone}
	for a.next() {
		switch a.kind {
		case unix.IFLA_IFNAME:
			l.Name = string(a.text())
		case unix.IFLA_ADDRESS:
			if l.LLAddr = lladdr(a.value); l.LLAddr == zeroLLAddr {
				l.LLAddr = "" // the loopback's
			}
		case unix.IFLA_LINK:
			l.Other = a.index()
		case unix.IFLA_LINK_NETNSID:
			l.HasNSID, l.NSID = true, int32(a.u32())
		case unix.IFLA_MASTER:
			l.Master = a.index()
		case unix.IFLA_LINKINFO:
			a.err = l.info(a.inner())
		case unix.IFLA_AF_SPEC:
			l.Inet6, a.err = takesInet6(a.inner())
		}
	}
	if a.err == nil && l.Index <= 0 {
		a.err = ErrMalformed
	}
	if a.err != nil {
		return Link{}, a.err
	}
	return l, nil
}

// info reads IFLA_LINKINFO: the kind, and then what means something for that kind.
func (l *Link) info(a attrs) error {
	for a.next() {
		switch a.kind {
		case nl.IFLA_INFO_KIND:
			l.Kind = kindName(a.text())
		case nl.IFLA_INFO_DATA:
			a.err = l.ofKind(a.inner())
		}
	}
	return a.err
}

func (l *Link) ofKind(a attrs) error {
	for a.next() {
		switch {
		case l.Kind == KindBridge && a.kind == nl.IFLA_BR_VLAN_FILTERING:
			l.VLANFiltering = a.u8() == 1
		case l.Kind == KindBridge && a.kind == nl.IFLA_BR_VLAN_PROTOCOL, l.Kind == KindVLAN && a.kind == nl.IFLA_VLAN_PROTOCOL:
			l.VLANProtocol = a.be16()
		case l.Kind == KindVLAN && a.kind == nl.IFLA_VLAN_ID:
			l.VLAN = a.u16()
		}
	}
	return a.err
}

// kindName makes no new string of the kinds that are everywhere.
func kindName(b []byte) string {
	switch string(b) {
	case KindVeth:
		return KindVeth
	case KindBridge:
		return KindBridge
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

// linkRequest asks for one link by number.
func linkRequest(index int, nsid int32) *request { return linksRequest(nsid).put32(4, uint32(index)) }

// Link reads one link by number. With nsid other than NSIDNone it is the link of
// the namespace that the socket's namespace knows by that number. See [Gone] for a
// link that is not there.
func (c *Conn) Link(ctx context.Context, index int, nsid int32) (Link, error) {
	return get(ctx, c, linkRequest(index, nsid), ParseLink)
}

// LinkByName reads one link of the socket's namespace by its name, or by an
// alternative one.
func (c *Conn) LinkByName(ctx context.Context, name string) (Link, error) {
	return get(ctx, c, linksRequest(NSIDNone).attr(unix.IFLA_IFNAME, append([]byte(name), 0)), ParseLink)
}

// Links reads every link of the socket's namespace, or of the one that it knows by a
// number. See [Conn] for begin.
//
// Of another namespace the kernel makes parts no longer than what was read before, and
// ends without a word at a link that is longer, such as one of seventy names
// (net/core/rtnetlink.c, rtnl_calcit looks at the own links, rtnl_dump_ifinfo). So
// something is read with room first. Links of more than 32 KiB, which is some two
// hundred and forty names, and those behind them are left out all the same.
func (c *Conn) Links(ctx context.Context, nsid int32, begin func(), each func(Link)) error {
	if nsid != NSIDNone {
		const loopback = 1
		c.makeRoom()
		if _, err := c.Link(ctx, loopback, nsid); err != nil {
			return err
		}
	}
	return list(ctx, c, linksRequest(nsid), ParseLink, begin, each)
}

// Gone tells whether a link was not found: no such link, or no namespace of that
// number any more (rtnl_get_net_ns_capable gives EINVAL).
func Gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENXIO)
}
