// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

const ethernetHeader = 14

// decode reads an Ethernet frame; ok is false for one that holds no message of the recorded kinds.
func decode(frame []byte) (message Message, ok bool) {
	if len(frame) < ethernetHeader {
		return Message{}, false
	}
	message.MAC = net.HardwareAddr(frame[6:12]).String()
	switch payload := frame[ethernetHeader:]; binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_ARP:
		ok = message.arp(payload)
	case unix.ETH_P_IPV6:
		ok = message.icmpv6(payload)
	}
	return message, ok
}

// arp reads a packet of RFC 826 for Ethernet and IPv4. In a reply the sender is what is answered for.
func (m *Message) arp(packet []byte) bool {
	if len(packet) < 28 || packet[4] != 6 || packet[5] != 4 {
		return false
	}
	sender, target := netip.AddrFrom4([4]byte(packet[14:18])), netip.AddrFrom4([4]byte(packet[24:28]))
	switch binary.BigEndian.Uint16(packet[6:]) {
	case 1:
		m.Kind, m.Sender, m.Target = ARPRequest, sender, target
	case 2:
		m.Kind, m.Sender, m.Target = ARPReply, sender, sender
	default:
		return false
	}
	return true
}

// icmpv6 reads a solicitation or advertisement of RFC 4861. Those carry no extension headers.
func (m *Message) icmpv6(packet []byte) bool {
	const header, target = 40, 48
	if len(packet) < target+16 || packet[6] != unix.IPPROTO_ICMPV6 {
		return false
	}
	switch packet[header] {
	case 135:
		m.Kind = Solicitation
	case 136:
		m.Kind = Advertisement
	default:
		return false
	}
	m.Sender = netip.AddrFrom16([16]byte(packet[8:24]))
	m.Target = netip.AddrFrom16([16]byte(packet[target : target+16]))
	return true
}
