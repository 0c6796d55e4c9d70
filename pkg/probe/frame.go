// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// Where things are in an Ethernet frame with an ARP packet (RFC 826), and in one
// with a neighbor solicitation or advertisement (RFC 4861 sections 4.3 and 4.4).
const (
	etherType = 12 // of the frame
	etherLen  = 14

	arpOperation    = etherLen + 6
	arpSenderLLAddr = etherLen + 8
	arpSender       = etherLen + 14
	arpTargetLLAddr = etherLen + 18
	arpTarget       = etherLen + 24
	arpLen          = etherLen + 28

	ip6PayloadLen = etherLen + 4
	ip6NextHeader = etherLen + 6
	ip6HopLimit   = etherLen + 7
	ip6Source     = etherLen + 8
	ip6Dest       = etherLen + 24
	icmp6         = etherLen + 40
	icmp6Code     = icmp6 + 1
	icmp6Checksum = icmp6 + 2
	ndFlags       = icmp6 + 4
	ndTarget      = icmp6 + 8
	ndOptions     = icmp6 + 24
)

const (
	arpRequest = 1
	arpReply   = 2

	icmp6Solicitation  = 135
	icmp6Advertisement = 136
	ndSolicited        = 1 << 6 // of the flags of an advertisement
	ndSourceLLAddr     = 1      // kinds of options
	ndTargetLLAddr     = 2
	ndHopLimit         = 255 // no router has forwarded it
)

const hwaddrLen = 6

// hardwareAddr reads an address in a frame.
func hardwareAddr(b []byte) neighbor.HardwareAddr {
	return neighbor.HardwareAddr(net.HardwareAddr(b).String())
}

// arpKind is the beginning of every packet about IPv4 on Ethernet.
func arpKind() [6]byte { return [6]byte{0, 1, 8, 0, hwaddrLen, 4} }

// claim is what one frame says: that an IP address is at a link-layer address. The
// address may be any, such as a group's; nobody asks for those.
type claim struct {
	dst    netip.Addr
	lladdr neighbor.HardwareAddr // of one station

	// Whom it answers; invalid when it answers nobody, as an announcement does.
	asker netip.Addr
}

// question makes the frame that asks. What is asked from must be valid, the
// unspecified address included.
func question(a neighbor.Ask, src netip.Addr) []byte {
	var own [hwaddrLen]byte
	if mac, err := net.ParseMAC(a.LLAddr.String()); err == nil {
		copy(own[:], mac) // which check has seen
	}
	if a.Dst.Is4() {
		return arpQuestion(own, src.As4(), a.Dst.As4())
	}
	return ndQuestion(own, src.As16(), a.Dst.As16())
}

func arpQuestion(own [hwaddrLen]byte, src, dst [4]byte) []byte {
	f := make([]byte, arpLen)
	copy(f, "\xff\xff\xff\xff\xff\xff")
	copy(f[hwaddrLen:], own[:])
	binary.BigEndian.PutUint16(f[etherType:], unix.ETH_P_ARP)
	kind := arpKind()
	copy(f[etherLen:], kind[:])
	binary.BigEndian.PutUint16(f[arpOperation:], arpRequest)
	copy(f[arpSenderLLAddr:], own[:])
	copy(f[arpSender:], src[:])
	copy(f[arpTarget:], dst[:])
	return f
}

// ndQuestion asks the solicited-node group of dst (RFC 4291 section 2.7.1).
func ndQuestion(own [hwaddrLen]byte, src, dst [16]byte) []byte {
	f := make([]byte, ndOptions+8)
	copy(f, "\x33\x33\xff")
	copy(f[3:], dst[13:])
	copy(f[hwaddrLen:], own[:])
	binary.BigEndian.PutUint16(f[etherType:], unix.ETH_P_IPV6)
	f[etherLen] = 6 << 4
	binary.BigEndian.PutUint16(f[ip6PayloadLen:], uint16(len(f)-icmp6))
	f[ip6NextHeader], f[ip6HopLimit] = unix.IPPROTO_ICMPV6, ndHopLimit
	copy(f[ip6Source:], src[:])
	copy(f[ip6Dest:], "\xff\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xff")
	copy(f[ip6Dest+13:], dst[13:])
	f[icmp6] = icmp6Solicitation
	copy(f[ndTarget:], dst[:])
	f[ndOptions], f[ndOptions+1] = ndSourceLLAddr, 1 // in units of eight bytes
	copy(f[ndOptions+2:], own[:])
	binary.BigEndian.PutUint16(f[icmp6Checksum:], ^sum6(f))
	return f
}

// sum6 is the Internet checksum's sum over the payload of an IPv6 frame, which
// is the rest of it, and its pseudo header (RFC 8200 section 8.1). All ones when
// the payload has the right checksum.
func sum6(f []byte) uint16 {
	sum := uint32(len(f)-icmp6) + uint32(f[ip6NextHeader])
	for b := f[ip6Source:]; len(b) > 0; b = b[min(2, len(b)):] {
		sum += uint32(b[0]) << 8
		if len(b) > 1 {
			sum += uint32(b[1])
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// parseARP reads what a frame claims. Requests claim, too: whoever asks says
// where it is. The address is the packet's, as the kernel takes it, and not the
// frame's: behind VRRP and proxies the two differ for good reasons.
func parseARP(f []byte) (c claim, ok bool) {
	if len(f) < arpLen || binary.BigEndian.Uint16(f[etherType:]) != unix.ETH_P_ARP || [6]byte(f[etherLen:]) != arpKind() {
		return claim{}, false
	}
	operation := binary.BigEndian.Uint16(f[arpOperation:])
	c.dst = netip.AddrFrom4([4]byte(f[arpSender:]))
	c.lladdr = hardwareAddr(f[arpSenderLLAddr:arpSender])
	if target := netip.AddrFrom4([4]byte(f[arpTarget:])); operation == arpReply && target != c.dst {
		c.asker = target
	}
	if operation != arpRequest && operation != arpReply || !c.lladdr.IsUnicast() {
		return claim{}, false
	}
	return c, true
}

// parseNA reads what a neighbor advertisement claims. One without the target's
// link-layer address, which an answer to a group must have (RFC 4861 section
// 4.4), claims nothing.
func parseNA(f []byte) (c claim, ok bool) {
	if len(f) < ndOptions || binary.BigEndian.Uint16(f[etherType:]) != unix.ETH_P_IPV6 || f[etherLen]>>4 != 6 {
		return claim{}, false
	}
	end := icmp6 + int(binary.BigEndian.Uint16(f[ip6PayloadLen:]))
	if end < ndOptions || end > len(f) {
		return claim{}, false // cut off; what is too long was filled up by Ethernet
	}
	f = f[:end]
	if f[ip6NextHeader] != unix.IPPROTO_ICMPV6 || f[ip6HopLimit] != ndHopLimit ||
		f[icmp6] != icmp6Advertisement || f[icmp6Code] != 0 || sum6(f) != 0xffff {
		return claim{}, false
	}
	c.dst = netip.AddrFrom16([16]byte(f[ndTarget:]))
	if f[ndFlags]&ndSolicited != 0 {
		c.asker = netip.AddrFrom16([16]byte(f[ip6Dest:]))
	}
	if c.lladdr, ok = targetLLAddr(f[ndOptions:]); !ok {
		return claim{}, false
	}
	return c, true
}

// targetLLAddr finds the target's address among the options. All of them must be
// whole, as the kernel demands (net/ipv6/ndisc.c, ndisc_parse_options), and the
// first of a kind counts.
func targetLLAddr(options []byte) (lladdr neighbor.HardwareAddr, ok bool) {
	for len(options) > 0 {
		if len(options) < 2 || options[1] == 0 || len(options) < 8*int(options[1]) {
			return "", false
		}
		if options[0] == ndTargetLLAddr && lladdr == "" && options[1] == 1 {
			lladdr = hardwareAddr(options[2:8])
		}
		options = options[8*int(options[1]):]
	}
	return lladdr, lladdr.IsUnicast()
}
