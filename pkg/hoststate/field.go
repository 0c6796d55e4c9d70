// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// kindOf is how the content of a field is written.
type kindOf int

const (
	aMAC kindOf = iota + 1
	anIP
	aType
	aName
	anOperation
)

// field is a part of a frame, or of what is known of it, that rules compare.
type field struct {
	name     string // in nft's words; empty when it is not understood
	ebtables string // the option of ebtables; empty when a match of its own does it
	kind     kindOf
}

// place is where a field is: a header, and bytes of it.
type place struct{ base, from, size uint32 }

var frameFields = map[place]field{
	{unix.NFT_PAYLOAD_LL_HEADER, 0, 6}:  {"ether daddr", "-d", aMAC},
	{unix.NFT_PAYLOAD_LL_HEADER, 6, 6}:  {"ether saddr", "-s", aMAC},
	{unix.NFT_PAYLOAD_LL_HEADER, 12, 2}: {"ether type", "-p", aType},
}

// networkFields are those behind the Ethernet header, by its type.
var networkFields = map[uint16]map[place]field{
	unix.ETH_P_IP: {
		{unix.NFT_PAYLOAD_NETWORK_HEADER, 12, 4}: {"ip saddr", "", anIP},
		{unix.NFT_PAYLOAD_NETWORK_HEADER, 16, 4}: {"ip daddr", "", anIP},
	},
	unix.ETH_P_IPV6: {
		{unix.NFT_PAYLOAD_NETWORK_HEADER, 8, 16}:  {"ip6 saddr", "", anIP},
		{unix.NFT_PAYLOAD_NETWORK_HEADER, 24, 16}: {"ip6 daddr", "", anIP},
	},
	unix.ETH_P_ARP: {
		{unix.NFT_PAYLOAD_NETWORK_HEADER, 6, 2}:  {"arp operation", "", anOperation},
		{unix.NFT_PAYLOAD_NETWORK_HEADER, 8, 6}:  {"arp saddr ether", "", aMAC},
		{unix.NFT_PAYLOAD_NETWORK_HEADER, 14, 4}: {"arp saddr ip", "", anIP},
		{unix.NFT_PAYLOAD_NETWORK_HEADER, 18, 6}: {"arp daddr ether", "", aMAC},
		{unix.NFT_PAYLOAD_NETWORK_HEADER, 24, 4}: {"arp daddr ip", "", anIP},
	},
}

var metaFields = map[uint32]field{
	unix.NFT_META_PROTOCOL:    {"ether type", "-p", aType}, // the same of a frame without a tag
	unix.NFT_META_IIFNAME:     {"iifname", "-i", aName},
	unix.NFT_META_OIFNAME:     {"oifname", "-o", aName},
	unix.NFT_META_BRI_IIFNAME: {"meta ibrname", "--logical-in", aName},
	unix.NFT_META_BRI_OIFNAME: {"meta obrname", "--logical-out", aName},
}

// field finds out what a value is of.
func (p *parser) field(v value) field {
	at := place{v.base, v.from, v.size}
	switch {
	case v.what == "meta":
		return metaFields[v.base]
	case v.what != "payload":
		return field{}
	case v.base == unix.NFT_PAYLOAD_LL_HEADER:
		return frameFields[at]
	}
	return networkFields[p.protocol][at]
}

// compare is a comparison of a register with bytes.
func (p *parser) compare(a map[uint16][]byte) {
	data, err := attrs(a[unix.NFTA_CMP_DATA])
	v := p.registers[slot(number(a[unix.NFTA_CMP_SREG]))]
	f, with, op := p.field(v), data[unix.NFTA_DATA_VALUE], number(a[unix.NFTA_CMP_OP])
	if err != nil || f.name == "" || op != unix.NFT_CMP_EQ && op != unix.NFT_CMP_NEQ || f.ebtables == "" && p.rule.legacy {
		p.unknownTo("a comparison")
		return
	}
	written, ok := f.write(v, with)
	if !ok {
		p.unknownTo("a comparison of " + f.name)
		return
	}
	not := op == unix.NFT_CMP_NEQ
	if !not && v.mask == nil {
		p.learn(f, with)
	}
	switch {
	case !p.rule.legacy && not:
		p.say(f.name, "!=", f.quoted(written))
	case !p.rule.legacy:
		p.say(f.name, f.quoted(written))
	case not:
		p.say("!", f.ebtables, ebtablesName(f, written))
	default:
		p.say(f.ebtables, ebtablesName(f, written))
	}
}

// learn takes from a comparison with a whole field what it says about the rule.
func (p *parser) learn(f field, with []byte) {
	switch {
	case f.kind == aType:
		p.protocol = binary.BigEndian.Uint16(with)
	case f.kind == anIP:
		if addr, ok := netip.AddrFromSlice(with); ok {
			p.rule.names = append(p.rule.names, addr)
		}
	case f.name == "ether daddr":
		p.rule.takes = append(p.rule.takes, hardware(with))
	}
}

// write puts the content of a field into words.
func (f field) write(v value, with []byte) (string, bool) {
	switch f.kind {
	case aName:
		// A name that is shorter than what is compared is a whole one.
		name, rest, whole := bytes.Cut(with, []byte{0})
		if len(name) == 0 || v.mask != nil || len(bytes.Trim(rest, "\x00")) > 0 || bytes.ContainsAny(name, "\"'\\*+\n ") {
			return "", false
		}
		if !whole {
			return string(name) + "*", true
		}
		return string(name), true
	case aMAC:
		return hardware(with).String(), v.mask == nil && hardware(with) != ""
	case anIP:
		addr, ok := netip.AddrFromSlice(with)
		if !ok || len(with) != int(v.size) {
			return "", false
		}
		return prefixed(addr, v.mask)
	case aType, anOperation:
		if len(with) != 2 || v.mask != nil {
			return "", false
		}
		return "0x" + strconv.FormatUint(uint64(binary.BigEndian.Uint16(with)), 16), true
	}
	return "", false
}

// prefixed writes an address and a mask that is a prefix's.
func prefixed(addr netip.Addr, mask []byte) (string, bool) {
	length := prefixLength(mask)
	if mask == nil || length == addr.BitLen() {
		return addr.String(), true
	}
	return addr.String() + "/" + strconv.Itoa(length), length >= 0
}

// prefixLength is the number of leading ones, or -1 when others follow.
func prefixLength(mask []byte) int {
	length := 0
	for i, b := range mask {
		ones := bits.LeadingZeros8(^b)
		length += ones
		if ones < 8 {
			if b<<ones != 0 || len(bytes.Trim(mask[i+1:], "\x00")) > 0 {
				return -1
			}
			break
		}
	}
	return length
}

// quoted is a name as nft wants it.
func (f field) quoted(written string) string {
	if f.kind == aName {
		return `'"` + written + `"'`
	}
	return written
}

// ebtablesName is the same as ebtables wants it.
func ebtablesName(f field, written string) string {
	if f.kind == aName && written[len(written)-1] == '*' {
		return shell(written[:len(written)-1] + "+")
	}
	if f.kind == aName {
		return shell(written)
	}
	return written
}
