// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Positions that x/sys does not name: DEVCONF_DISABLE_IPV6
// (include/uapi/linux/ipv6.h), RTEXT_FILTER_SKIP_STATS
// (include/uapi/linux/rtnetlink.h), IFLA_BR_VLAN_FILTERING
// (include/uapi/linux/if_link.h).
const (
	devconfDisableIPv6 = 26
	filterSkipStats    = 1 << 3
	brVLANFiltering    = 7
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

	inet6         bool // the link takes part in IPv6
	vlanFiltering bool // of a bridge
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

// parseLink reads the body of RTM_NEWLINK.
func parseLink(body []byte) (link, error) {
	if len(body) < unix.SizeofIfInfomsg {
		return link{}, errMalformed
	}
	// struct ifinfomsg: family, pad, type (2), index (4), flags (4), change (4)
	index := int32(binary.NativeEndian.Uint32(body[4:]))
	if index <= 0 {
		return link{}, errMalformed
	}
	l := link{index: int(index), flags: binary.NativeEndian.Uint32(body[8:]), nsid: nsidNone}
	err := eachAttr(body[unix.SizeofIfInfomsg:], func(kind uint16, v []byte) (err error) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.name = cString(v)
		case unix.IFLA_ADDRESS:
			l.lladdr = hardwareAddr(v)
		case unix.IFLA_MASTER:
			l.master, err = attrIndex(v)
		case unix.IFLA_LINK:
			l.other, err = attrIndex(v)
		case unix.IFLA_LINK_NETNSID:
			var n uint32
			n, err = attrU32(v)
			l.hasNSID, l.nsid = true, int32(n)
		case unix.IFLA_LINKINFO:
			err = l.parseInfo(v)
		case unix.IFLA_AF_SPEC:
			err = l.parseFamilies(v)
		}
		return err
	})
	if err != nil {
		return link{}, err
	}
	return l, nil
}

func (l *link) parseInfo(b []byte) error {
	var data []byte
	err := eachAttr(b, func(kind uint16, v []byte) error {
		switch kind {
		case unix.IFLA_INFO_KIND:
			l.kind = cString(v)
		case unix.IFLA_INFO_DATA:
			data = v
		}
		return nil
	})
	if err != nil || l.kind != kindBridge {
		return err // other kinds number their attributes differently
	}
	return eachAttr(data, func(kind uint16, v []byte) error {
		if kind != brVLANFiltering {
			return nil
		}
		on, err := attrU8(v)
		l.vlanFiltering = on != 0
		return err
	})
}

// parseFamilies finds out about IPv6. The family is listed only while the link
// has IPv6 state at all, which it loses below an MTU of 1280
// (net/ipv6/addrconf.c, addrconf_notify).
func (l *link) parseFamilies(b []byte) error {
	return eachAttr(b, func(family uint16, v []byte) error {
		if family != unix.AF_INET6 {
			return nil
		}
		l.inet6 = true
		return eachAttr(v, func(kind uint16, conf []byte) error {
			if kind != unix.IFLA_INET6_CONF || len(conf) < 4*(devconfDisableIPv6+1) {
				return nil
			}
			l.inet6 = binary.NativeEndian.Uint32(conf[4*devconfDisableIPv6:]) == 0
			return nil
		})
	})
}

// linksRequest asks for every link of the socket's namespace.
func linksRequest() request {
	return request{kind: unix.RTM_GETLINK,
		body: appendAttr32(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_EXT_MASK, filterSkipStats)}
}

// linkRequest asks for one link by number. With nsid other than nsidNone it is
// the link of the namespace that the socket's namespace knows by that number.
func linkRequest(index int, nsid int32) request {
	body := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(body[4:], uint32(index))
	body = appendAttr32(body, unix.IFLA_EXT_MASK, filterSkipStats)
	if nsid != nsidNone {
		body = appendAttr32(body, unix.IFLA_TARGET_NETNSID, uint32(nsid))
	}
	return request{kind: unix.RTM_GETLINK, body: body}
}

// linkNameRequest asks for one link by name.
func linkNameRequest(name string) request {
	body := appendAttr32(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_EXT_MASK, filterSkipStats)
	return request{kind: unix.RTM_GETLINK, body: appendAttr(body, unix.IFLA_IFNAME, append([]byte(name), 0))}
}

// link reads one link; see linkRequest.
func (c *conn) link(ctx context.Context, index int, nsid int32) (l link, err error) {
	err = c.get(ctx, linkRequest(index, nsid), func(_ uint16, body []byte) error {
		l, err = parseLink(body)
		return err
	})
	return l, err
}
