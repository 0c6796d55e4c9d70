// SPDX-License-Identifier: Apache-2.0

package spoof

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

const (
	arpRequest = 1
	arpAnswer  = 2

	ethernetHeader = 14
	ipv6Header     = 40
	arpPacket      = 28
	advertisement  = 32 // with the option that holds the link-layer address
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = netip.MustParseAddr("ff02::1")
)

// question is what somebody on the segment asks: who has target?
type question struct {
	target netip.Addr
	asker  netip.Addr // unspecified in the probes of duplicate address detection
	mac    net.HardwareAddr
}

// parse reads an ARP request or a neighbor solicitation; ok is false for anything else.
func parse(frame []byte) (q question, ok bool) {
	if len(frame) < ethernetHeader {
		return question{}, false
	}
	q.mac = net.HardwareAddr(frame[6:12])
	packet := frame[ethernetHeader:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_ARP:
		if len(packet) < arpPacket || binary.BigEndian.Uint16(packet[6:]) != arpRequest {
			return question{}, false
		}
		q.asker, q.target = netip.AddrFrom4([4]byte(packet[14:18])), netip.AddrFrom4([4]byte(packet[24:28]))
	case unix.ETH_P_IPV6:
		if len(packet) < ipv6Header+24 || packet[6] != unix.IPPROTO_ICMPV6 || packet[ipv6Header] != byte(ipv6.ICMPTypeNeighborSolicitation) {
			return question{}, false
		}
		q.asker, q.target = netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[ipv6Header+8:ipv6Header+24]))
	default:
		return question{}, false
	}
	return q, true
}

// claim is a frame that says that ip is at mac: a reply to q if that asks for it, else one that nobody asked for, to everybody.
func claim(ip netip.Addr, mac net.HardwareAddr, q question) []byte {
	to, asker := broadcast, ip // a gratuitous reply of ARP names the address twice
	solicited := q.target == ip && q.asker.IsValid() && !q.asker.IsUnspecified()
	if solicited {
		to, asker = q.mac, q.asker
	}
	if ip.Is4() {
		return append(ethernet(to, mac, unix.ETH_P_ARP), arpReply(ip, mac, asker, to)...)
	}
	if !solicited {
		to, asker = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, allNodes
	}
	return append(ethernet(to, mac, unix.ETH_P_IPV6), advertise(ip, mac, asker, solicited)...)
}

func ethernet(to, from net.HardwareAddr, protocol uint16) []byte {
	frame := make([]byte, 0, 128)
	frame = append(append(frame, to...), from...)
	return binary.BigEndian.AppendUint16(frame, protocol)
}

// arpReply is a packet of RFC 826: ip is at mac.
func arpReply(ip netip.Addr, mac net.HardwareAddr, asker netip.Addr, askerMAC net.HardwareAddr) []byte {
	packet := []byte{0, 1, 8, 0, 6, 4, 0, arpAnswer}
	packet = append(append(packet, mac...), ip.AsSlice()...)
	return append(append(packet, askerMAC...), asker.AsSlice()...)
}

// advertise is a neighbor advertisement of RFC 4861 by a router, with the override flag: ip is at mac.
func advertise(ip netip.Addr, mac net.HardwareAddr, to netip.Addr, solicited bool) []byte {
	const router, solicitedFlag, override = 0x80, 0x40, 0x20
	message := make([]byte, 8, advertisement)
	message[0], message[4] = byte(ipv6.ICMPTypeNeighborAdvertisement), router|override
	if solicited {
		message[4] |= solicitedFlag
	}
	message = append(append(message, ip.AsSlice()...), 2, 1) // option 2, the target's link-layer address, 8 bytes long
	message = append(message, mac...)

	packet := make([]byte, 0, ipv6Header+advertisement)
	packet = append(packet, 0x60, 0, 0, 0, 0, advertisement, unix.IPPROTO_ICMPV6, 255)
	packet = append(append(packet, ip.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(message[2:], checksum(packet[8:ipv6Header], message))
	return append(packet, message...)
}

// checksum is that of RFC 4443 over the two addresses, the length, the protocol and the message.
func checksum(addresses, message []byte) uint16 {
	sum := uint32(len(message)) + unix.IPPROTO_ICMPV6
	for _, data := range [][]byte{addresses, message} {
		for i := 0; i < len(data); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(data[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
