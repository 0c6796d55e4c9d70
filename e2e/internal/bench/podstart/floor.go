// SPDX-License-Identifier: Apache-2.0

package podstart

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// floor does the job with as few system calls as it can: one visit to the namespace, one dump of the routes of both families, one
// question for the pod's link and one for its other end, and all entries in one message, of which the last is acknowledged. It
// trusts everything it reads: no identity of the namespace, no host to refuse, no bridge, no entry of somebody else, no
// interrupted dump, no deadline.
type floor struct {
	home int // the process's own namespace, kept open
	buf  []byte
}

func newFloor() (*floor, error) {
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the own namespace: %w", err)
	}
	return &floor{home: home, buf: make([]byte, 64<<10)}, nil
}

func (f *floor) Close() error { return unix.Close(f.home) }

// A gateway as a route names it.
type gateway struct {
	family byte
	addr   []byte
	index  uint32
}

func (f *floor) pin(_ context.Context, path string) error {
	s, err := f.open(path)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	gateways, err := f.routes(s)
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	if len(gateways) == 0 {
		return errors.New("read routes: no gateway")
	}
	mac, err := f.otherEnd(s, gateways[0].index)
	if err != nil {
		return err
	}
	if err := f.write(s, gateways, mac); err != nil {
		return fmt.Errorf("write entries: %w", err)
	}
	return nil
}

// open makes a socket in the namespace. A thread that cannot return from there ends with its goroutine.
func (f *floor) open(path string) (int, error) {
	runtime.LockOSThread()
	ns, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open namespace: %w", err)
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return -1, fmt.Errorf("enter namespace: %w", err)
	}
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if back := unix.Setns(f.home, unix.CLONE_NEWNET); back != nil {
		return -1, fmt.Errorf("return from namespace: %w", back)
	}
	runtime.UnlockOSThread()
	unix.Close(ns)
	return s, err
}

// routes asks for both families at once (AF_UNSPEC, net/core/rtnetlink.c, rtnl_dump_all).
func (f *floor) routes(s int) (list []gateway, err error) {
	if _, err := unix.Write(s, message(nil, unix.RTM_GETROUTE, unix.NLM_F_DUMP, make([]byte, unix.SizeofRtMsg))); err != nil {
		return nil, err
	}
	for done := false; !done && err == nil; {
		done, err = f.receive(s, func(body []byte) {
			g := gateway{family: body[0]}
			if body[7] != unix.RTN_UNICAST || g.family != unix.AF_INET && g.family != unix.AF_INET6 {
				return
			}
			attributes(body[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
				switch kind {
				case unix.RTA_GATEWAY:
					g.addr = append([]byte(nil), value...)
				case unix.RTA_OIF:
					g.index = binary.NativeEndian.Uint32(value)
				}
			})
			if g.addr != nil {
				list = append(list, g)
			}
		})
	}
	return list, err
}

// otherEnd reads the address of a veth's other end, which it asks the veth for.
func (f *floor) otherEnd(s int, index uint32) (mac []byte, err error) {
	const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS, include/uapi/linux/rtnetlink.h
	var peer, nsid uint32
	ask := func(index uint32, attrs []byte, each func(kind uint16, value []byte)) error {
		body := make([]byte, unix.SizeofIfInfomsg)
		binary.NativeEndian.PutUint32(body[4:], index)
		body = append(attribute32(body, unix.IFLA_EXT_MASK, skipStats), attrs...)
		if _, err := unix.Write(s, message(nil, unix.RTM_GETLINK, 0, body)); err != nil {
			return err
		}
		_, err := f.receive(s, func(body []byte) { attributes(body[unix.SizeofIfInfomsg:], each) })
		return err
	}
	err = ask(index, nil, func(kind uint16, value []byte) {
		switch kind {
		case unix.IFLA_LINK:
			peer = binary.NativeEndian.Uint32(value)
		case unix.IFLA_LINK_NETNSID:
			nsid = binary.NativeEndian.Uint32(value)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read link %d: %w", index, err)
	}
	err = ask(peer, attribute32(nil, unix.IFLA_TARGET_NETNSID, nsid), func(kind uint16, value []byte) {
		if kind == unix.IFLA_ADDRESS {
			mac = append([]byte(nil), value...)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read the other end, link %d: %w", peer, err)
	}
	return mac, nil
}

// write sends all entries in one go. An error of any is answered; success of the last only.
func (f *floor) write(s int, gateways []gateway, mac []byte) error {
	var all []byte
	for i, g := range gateways {
		body := make([]byte, unix.SizeofNdMsg)
		body[0] = g.family
		binary.NativeEndian.PutUint32(body[4:], g.index)
		binary.NativeEndian.PutUint16(body[8:], unix.NUD_PERMANENT)
		body = attribute(attribute(body, unix.NDA_DST, g.addr), unix.NDA_LLADDR, mac)
		flags := unix.NLM_F_CREATE | unix.NLM_F_EXCL
		if i == len(gateways)-1 {
			flags |= unix.NLM_F_ACK
		}
		all = message(all, unix.RTM_NEWNEIGH, flags, body)
	}
	if _, err := unix.Write(s, all); err != nil {
		return err
	}
	_, err := f.receive(s, func([]byte) {})
	return err
}

// receive reads once and gives the body of each message to each. done: the end of a dump was among them.
func (f *floor) receive(s int, each func(body []byte)) (done bool, err error) {
	n, err := unix.Read(s, f.buf)
	if err != nil {
		return false, err
	}
	for b := f.buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
		length := binary.NativeEndian.Uint32(b)
		body := b[unix.SizeofNlMsghdr:length]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
				return true, unix.Errno(-code)
			}
		default:
			each(body)
		}
		b = b[min(len(b), align(int(length))):]
	}
	return false, nil
}

func align(n int) int { return (n + 3) &^ 3 }

// message appends a request to b.
func message(b []byte, kind, flags int, body []byte) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, uint16(kind))
	b = binary.NativeEndian.AppendUint16(b, uint16(flags|unix.NLM_F_REQUEST))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // sequence number and sender: one request at a time needs neither
	return append(b, body...)
}

// attribute appends one to b, padded.
func attribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, align(len(value))-len(value))...)
}

func attribute32(b []byte, kind uint16, value uint32) []byte {
	return attribute(b, kind, binary.NativeEndian.AppendUint32(nil, value))
}

// attributes gives each its attributes, whose kind is without the flags in it (NLA_TYPE_MASK).
func attributes(b []byte, each func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		each(binary.NativeEndian.Uint16(b[2:])&0x3fff, b[unix.SizeofRtAttr:length])
		b = b[min(len(b), align(length)):]
	}
}
