// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/sockfilter"
)

// frameSize is how much of a frame is read. What is longer says all about IPv4 in its
// beginning; an advertisement that is cut off claims nothing.
const frameSize = 1514

// socket is a packet socket that hears what one link says about the addresses of
// one family. It is for one goroutine.
type socket struct {
	fd    int
	parse func(frame []byte) (claim, bool)
}

// openSocket makes a socket in the namespace of the calling thread. It hears
// nothing that it should not: the filter stands before it is bound.
func openSocket(dev string, targets []netip.Addr) (*socket, error) {
	protocol, parse := uint16(unix.ETH_P_ARP), parseARP
	if targets[0].Is6() {
		protocol, parse = unix.ETH_P_IPV6, parseNA
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket (needs CAP_NET_RAW): %w", err)
	}
	s := &socket{fd: fd, parse: parse}
	if err := s.bind(dev, networkOrder(protocol), targets); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *socket) bind(dev string, protocol uint16, targets []netip.Addr) error {
	ifr, err := unix.NewIfreq(dev)
	if err != nil {
		return fmt.Errorf("name link %s: %w", plain.Text(dev), err)
	}
	if err := unix.IoctlIfreq(s.fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return fmt.Errorf("find link %s: %w", plain.Text(dev), err)
	}
	if err := sockfilter.Attach(s.fd, filter(targets)); err != nil {
		return fmt.Errorf("set filter of packet socket: %w", err)
	}
	if err := unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: int(ifr.Uint32())}); err != nil {
		return fmt.Errorf("bind packet socket to link %s: %w", plain.Text(dev), err)
	}
	return nil
}

// filter lets through what says something about one of the targets, which
// are of one family: the rest of the sandbox's traffic is not even copied. As the
// kernel's own ARP does it passes over what is meant for others, such as frames
// with a VLAN's tag that no link here takes off (net/core/dev.c,
// __netif_receive_skb_core, makes them PACKET_OTHERHOST).
func filter(targets []netip.Addr) []bpf.Instruction {
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: unix.PACKET_MULTICAST, SkipTrue: 1},
		bpf.RetConstant{},
	}
	at := uint32(arpSender)
	if targets[0].Is6() {
		at = ndTarget
		program = append(program,
			bpf.LoadAbsolute{Off: ip6NextHeader, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 1},
			bpf.RetConstant{},
			bpf.LoadAbsolute{Off: icmp6, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmp6Advertisement, SkipTrue: 1},
			bpf.RetConstant{},
		)
	}
	for _, target := range targets {
		for words := target.AsSlice(); len(words) > 0; words = words[4:] {
			off := at + uint32(target.BitLen()/8-len(words))
			rest := len(words)/4 - 1 // after this one; the last is followed by the word of acceptance
			program = append(program, bpf.LoadAbsolute{Off: off, Size: 4},
				bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(words), SkipTrue: uint8(2*rest + 1)})
		}
		program = append(program, bpf.RetConstant{Val: frameSize})
	}
	return append(program, bpf.RetConstant{})
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// send sends a frame. A link that is down or gone, or that has no room at the
// moment, is no error: there will be no answer.
func (s *socket) send(frame []byte) error {
	_, err := unix.Write(s.fd, frame)
	if err == nil || passing(err) {
		return nil
	}
	return fmt.Errorf("send question: %w", err)
}

// passing tells whether an error of the socket is about a link and not about us.
func passing(err error) bool {
	for _, known := range []error{unix.ENETDOWN, unix.ENXIO, unix.ENOBUFS, unix.EAGAIN} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// claims reads what has come, without waiting, and gives what it says to hear.
// It reads no more frames than fit into the socket, so that a flood cannot keep
// it.
func (s *socket) claims(hear func(claim)) error {
	var frame [frameSize]byte
	for range framesAtOnce {
		n, err := unix.Read(s.fd, frame[:])
		switch {
		case passing(err):
			return nil
		case err != nil:
			return fmt.Errorf("receive from packet socket: %w", err)
		}
		if c, ok := s.parse(frame[:n]); ok {
			hear(c)
		}
	}
	return nil
}

// framesAtOnce is about what a socket of the usual size holds (net.core.rmem_default).
const framesAtOnce = 512

// deaf tells whether frames were dropped for want of room, so that a claim may
// have been missed.
func (s *socket) deaf() (bool, error) {
	stats, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return true, fmt.Errorf("read statistics of packet socket: %w", err)
	}
	return stats.Drops > 0, nil
}

// networkOrder turns a number around where the machine's order is another.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
