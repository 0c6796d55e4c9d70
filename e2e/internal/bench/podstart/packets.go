// SPDX-License-Identifier: Apache-2.0

package podstart

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// packets hears what comes in on the host's end of a pod's veth, which is what the pod sends.
type packets struct {
	fd  int
	buf []byte
}

func listen(index int) (*packets, error) {
	protocol := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: index}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind a packet socket to link %d: %w", index, err)
	}
	return &packets{fd: fd, buf: make([]byte, 2048)}, nil
}

func (p *packets) Close() { unix.Close(p.fd) }

// count counts what was heard so far and belongs to asking for a neighbor: ARP, IPv6 neighbor discovery without routers', UDP and
// echoes. What the kernel says of its own when a link comes up (multicast groups) is nobody's doing.
func (p *packets) count() (n int, err error) {
	for {
		length, from, err := unix.Recvfrom(p.fd, p.buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			return n, nil
		} else if err != nil {
			return 0, fmt.Errorf("read a packet: %w", err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING && asks(p.buf[:length]) {
			n++
		}
	}
}

func asks(frame []byte) bool {
	const header4, header6 = 14 + 20, 14 + 40
	if len(frame) < 14 {
		return false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_ARP:
		return true
	case unix.ETH_P_IP:
		return len(frame) >= header4 && (frame[14+9] == unix.IPPROTO_UDP || frame[14+9] == unix.IPPROTO_ICMP)
	case unix.ETH_P_IPV6:
		if len(frame) <= header6 {
			return false
		}
		kind := frame[header6] // of ICMPv6: echo request and reply, solicitation and advertisement
		return frame[14+6] == unix.IPPROTO_UDP || frame[14+6] == unix.IPPROTO_ICMPV6 && (kind == 128 || kind == 129 || kind == 135 || kind == 136)
	}
	return false
}
