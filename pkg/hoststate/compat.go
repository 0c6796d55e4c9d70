// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// What ebtables-nft writes is, beside nf_tables' own expressions, the matches and
// targets of ebtables with their structures as they are: include/uapi/linux/
// netfilter_bridge/ebt_arp.h, ebt_ip.h, ebt_ip6.h, ebt_arpreply.h, ebt_nat.h,
// ebt_redirect.h. Numbers in them are the machine's, but those of the wire.

// match reads a match of ebtables.
func (p *parser) match(name string, revision uint32, info []byte) {
	ok := false
	switch {
	case revision != 0:
	case name == "arp" && len(info) >= 50:
		ok = p.matchARP(info)
	case name == "ip" && len(info) >= 20:
		ok = p.matchIP(info, "ip", 4)
	case name == "ip6" && len(info) >= 68:
		ok = p.matchIP(info, "ip6", 16)
	}
	if !ok {
		p.unknownTo("match " + strconv.Quote(name))
	}
}

// option writes one option of a match.
func (p *parser) option(inverted bool, name, argument string) {
	if inverted {
		p.say("!")
	}
	p.say(name, argument)
}

// Of struct ebt_arp_info.
const (
	arpOpcode = 1 << iota
	arpHType
	arpPType
	arpSrcIP
	arpDstIP
)

// matchARP reads whatever it knows also where there is more: a rule is found by its addresses.
func (p *parser) matchARP(info []byte) bool {
	used, inverted := info[48], info[49]
	for _, o := range []struct {
		bit  byte
		name string
		from int
	}{{arpOpcode, "--arp-op", 4}, {arpHType, "--arp-htype", 0}, {arpPType, "--arp-ptype", 2}} {
		if used&o.bit != 0 {
			n := uint64(binary.BigEndian.Uint16(info[o.from:]))
			written := strconv.FormatUint(n, 10)
			if o.bit == arpPType {
				written = "0x" + strconv.FormatUint(n, 16)
			}
			p.option(inverted&o.bit != 0, o.name, written)
		}
	}
	from := p.address(used&arpSrcIP != 0, inverted&arpSrcIP != 0, "--arp-ip-src", info[8:12], info[12:16])
	to := p.address(used&arpDstIP != 0, inverted&arpDstIP != 0, "--arp-ip-dst", info[16:20], info[20:24])
	return from && to && used&^(arpOpcode|arpHType|arpPType|arpSrcIP|arpDstIP) == 0
}

// address writes an address with its mask.
func (p *parser) address(used, inverted bool, option string, ip, mask []byte) bool {
	if !used {
		return true
	}
	addr, _ := netip.AddrFromSlice(ip)
	written, ok := prefixed(addr, mask)
	if !ok {
		return false
	}
	if !inverted && prefixLength(mask) == addr.BitLen() {
		p.rule.names = append(p.rule.names, addr)
	}
	p.option(inverted, option, written)
	return true
}

// Of struct ebt_ip_info and ebt_ip6_info, which differ in the addresses' size.
const (
	ipSource   = 0x01
	ipDest     = 0x02
	ipProtocol = 0x08
)

// matchIP is matchARP for both families: a port, say, stands beside the address.
func (p *parser) matchIP(info []byte, family string, size int) bool {
	flags := info[4*size:] // tos or class, protocol, used, inverted
	protocol, used, inverted := flags[1], flags[2], flags[3]
	part := func(i int) []byte { return info[i*size : (i+1)*size] }
	// Addresses and masks in turn: source, destination, their masks.
	from := p.address(used&ipSource != 0, inverted&ipSource != 0, "--"+family+"-src", part(0), part(2))
	to := p.address(used&ipDest != 0, inverted&ipDest != 0, "--"+family+"-dst", part(1), part(3))
	if used&ipProtocol != 0 {
		p.option(inverted&ipProtocol != 0, "--"+family+"-proto", strconv.Itoa(int(protocol)))
	}
	return from && to && used&^(ipSource|ipDest|ipProtocol) == 0
}

// Of ebtables' verdicts, which are negative, with flags of a target in the bits
// above (EBT_VERDICT_BITS).
var ebtablesVerdicts = map[int32]string{-1: "ACCEPT", -2: "DROP", -3: "CONTINUE", -4: "RETURN"}

// natARP is set when snat leaves the sender in ARP alone (NAT_ARP_BIT).
const natARP = 0x10

// target reads a target of ebtables.
func (p *parser) target(name string, revision uint32, info []byte) {
	options := map[string][2]string{
		"arpreply": {"--arpreply-mac", "--arpreply-target"},
		"dnat":     {"--to-dst", "--dnat-target"},
		"snat":     {"--to-src", "--snat-target"},
	}
	option, known := options[name]
	if !known || revision != 0 || len(info) < 12 {
		p.unknownTo("target " + strconv.Quote(name))
		return
	}
	mac := hardware(info[:6])
	code := int32(binary.NativeEndian.Uint32(info[8:]))
	verdict := ebtablesVerdicts[code|^int32(0xf)]
	if mac == "" || verdict == "" || name != "snat" && code|^int32(0xf) != code {
		p.unknownTo("what target " + name + " has")
		return
	}
	p.rule.gives = append(p.rule.gives, mac)
	p.say("-j", name, option[0], mac.String())
	if name == "snat" && code&natARP == 0 {
		p.say("--snat-arp")
	}
	p.say(option[1], verdict)
}
