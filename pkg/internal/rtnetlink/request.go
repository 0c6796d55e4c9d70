// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// request is one message to the kernel, complete but for its number.
type request struct {
	data []byte
	room [80]byte // for what most are made of
}

// newRequest makes a request of the size of its fixed part, in which the family
// comes first.
func newRequest(kind, flags int, family uint8, fixed int) *request {
	r := &request{}
	r.data = r.room[:unix.SizeofNlMsghdr+align(fixed)]
	binary.NativeEndian.PutUint16(r.data[4:], uint16(kind))
	binary.NativeEndian.PutUint16(r.data[6:], uint16(flags|unix.NLM_F_REQUEST))
	r.body()[0] = family
	return r
}

// body is what follows the header.
func (r *request) body() []byte { return r.data[unix.SizeofNlMsghdr:] }

// put32 writes into the fixed part.
func (r *request) put32(offset int, value uint32) *request {
	binary.NativeEndian.PutUint32(r.body()[offset:], value)
	return r
}

// put16 does, too.
func (r *request) put16(offset int, value uint16) *request {
	binary.NativeEndian.PutUint16(r.body()[offset:], value)
	return r
}

// flag adds flags to the header's.
func (r *request) flag(flags uint16) *request {
	binary.NativeEndian.PutUint16(r.data[6:], binary.NativeEndian.Uint16(r.data[6:])|flags)
	return r
}

// beAnswered asks for an acknowledgement where there is no other answer: messages
// come in fours, of which the third asks for something (rtnetlink_rcv_msg).
func (r *request) beAnswered() {
	const kinds, get = 4, 2
	if binary.NativeEndian.Uint16(r.data[4:])%kinds != get {
		r.flag(unix.NLM_F_ACK)
	}
}

// attr appends an attribute.
func (r *request) attr(kind int, value []byte) *request {
	r.data = binary.NativeEndian.AppendUint16(r.data, uint16(unix.SizeofRtAttr+len(value)))
	r.data = binary.NativeEndian.AppendUint16(r.data, uint16(kind))
	r.data = append(r.data, value...)
	for len(r.data)%unix.RTA_ALIGNTO != 0 {
		r.data = append(r.data, 0)
	}
	return r
}

func (r *request) attr32(kind int, value uint32) *request {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], value)
	return r.attr(kind, b[:])
}

// addr appends an IP address.
func (r *request) addr(kind int, addr netip.Addr) *request {
	if addr.Is4() {
		b := addr.As4()
		return r.attr(kind, b[:])
	}
	b := addr.As16()
	return r.attr(kind, b[:])
}

// target asks for what another namespace has, which the socket's own knows by a
// number, unless that is NSIDNone.
func (r *request) target(kind int, nsid int32) *request {
	if nsid == NSIDNone {
		return r
	}
	return r.attr32(kind, uint32(nsid))
}

// append writes the whole message with its number behind b.
func (r *request) append(b []byte, number uint32) []byte {
	binary.NativeEndian.PutUint32(r.data, uint32(len(r.data)))
	binary.NativeEndian.PutUint32(r.data[8:], number)
	return append(b, r.data...)
}

func align(n int) int { return (n + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1) }
