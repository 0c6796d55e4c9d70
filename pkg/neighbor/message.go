// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// header is struct nlmsghdr.
type header struct {
	kind  uint16
	flags uint16
	seq   uint32
	port  uint32
}

// request is a message to the kernel.
type request struct {
	kind  uint16
	flags uint16
	body  []byte // the family's fixed part, then attributes
}

func (r request) marshal(seq uint32) []byte {
	msg := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(r.body))
	binary.NativeEndian.PutUint32(msg[0:], uint32(unix.NLMSG_HDRLEN+len(r.body)))
	binary.NativeEndian.PutUint16(msg[4:], r.kind)
	binary.NativeEndian.PutUint16(msg[6:], r.flags|unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(msg[8:], seq)
	return append(msg, r.body...)
}

// walkMessages gives each message of a datagram to f until that says done.
func walkMessages(b []byte, f func(h header, body []byte) (done bool, err error)) (bool, error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return false, errMalformed
		}
		h := header{
			kind:  binary.NativeEndian.Uint16(b[4:]),
			flags: binary.NativeEndian.Uint16(b[6:]),
			seq:   binary.NativeEndian.Uint32(b[8:]),
			port:  binary.NativeEndian.Uint32(b[12:]),
		}
		if done, err := f(h, b[unix.NLMSG_HDRLEN:size]); done || err != nil {
			return done, err
		}
		b = b[min(align(size), len(b)):]
	}
	if len(b) != 0 {
		return false, errMalformed
	}
	return false, nil
}

// align rounds up to the boundary of messages and attributes, which is the same
// (NLMSG_ALIGNTO, NLA_ALIGNTO).
func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// attrTypeMask leaves out NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const attrTypeMask = 1<<14 - 1

// appendAttr adds an attribute and the padding after it.
func appendAttr(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, align(len(value))-len(value))...)
}

func appendAttr32(b []byte, kind uint16, value uint32) []byte {
	return appendAttr(b, kind, binary.NativeEndian.AppendUint32(nil, value))
}

// eachAttr gives each attribute to f, its type without the two flag bits.
func eachAttr(b []byte, f func(kind uint16, value []byte) error) error {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return errMalformed
		}
		kind := binary.NativeEndian.Uint16(b[2:]) & attrTypeMask
		if err := f(kind, b[unix.SizeofRtAttr:size]); err != nil {
			return err
		}
		b = b[min(align(size), len(b)):]
	}
	if len(b) != 0 {
		return errMalformed
	}
	return nil
}

func attrU8(v []byte) (uint8, error) {
	if len(v) < 1 {
		return 0, errMalformed
	}
	return v[0], nil
}

func attrU32(v []byte) (uint32, error) {
	if len(v) < 4 {
		return 0, errMalformed
	}
	return binary.NativeEndian.Uint32(v), nil
}

// attrIndex reads the number of a link, which the kernel keeps in an int.
func attrIndex(v []byte) (int, error) {
	n, err := attrU32(v)
	if err != nil || n > math.MaxInt32 {
		return 0, errMalformed
	}
	return int(n), nil
}

// attrIP reads an address of the family that its length tells. Mapped addresses
// are left alone: the kernel has none of them as gateways, and unmapping one
// would move an entry to the other table.
func attrIP(v []byte) (netip.Addr, error) {
	addr, ok := netip.AddrFromSlice(v)
	if !ok {
		return netip.Addr{}, errMalformed
	}
	return addr, nil
}

// cString reads text up to its terminating zero.
func cString(v []byte) string {
	if i := bytes.IndexByte(v, 0); i >= 0 {
		v = v[:i]
	}
	return string(v)
}

// isPlain tells whether s is printable ASCII. A link's name may be nearly any
// bytes (net/core/dev.c, dev_valid_name).
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// printable returns s in a form that cannot break a log or a terminal.
func printable(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}
