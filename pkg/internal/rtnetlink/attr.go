// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// attrs reads the attributes of a message one after the other, without copying
// them:
//
//	for a := readAttrs(body, unix.SizeofNdMsg); a.next(); {
//
// What it can not read ends the reading, and err says so. All messages are the
// kernel's, but one must not be able to end the daemon of a whole node.
type attrs struct {
	rest  []byte
	kind  uint16
	value []byte
	err   error
}

// kindMask leaves out the flags in an attribute's kind (NLA_TYPE_MASK).
const kindMask = 1<<14 - 1

// readAttrs begins behind a message's fixed part, which has to be there.
func readAttrs(body []byte, fixed int) attrs {
	if fixed = align(fixed); fixed < 0 || len(body) < fixed {
		return attrs{err: ErrMalformed}
	}
	return attrs{rest: body[fixed:]}
}

// inner begins to read the attributes within the value of the present one.
func (a *attrs) inner() attrs { return attrs{rest: a.value} }

func (a *attrs) next() bool {
	if a.err != nil || len(a.rest) < unix.SizeofRtAttr {
		return false
	}
	length := int(binary.NativeEndian.Uint16(a.rest))
	if length < unix.SizeofRtAttr || length > len(a.rest) {
		a.err = ErrMalformed
		return false
	}
	a.kind, a.value = binary.NativeEndian.Uint16(a.rest[2:])&kindMask, a.rest[unix.SizeofRtAttr:length]
	a.rest = a.rest[min(align(length), len(a.rest)):]
	return true
}

// has tells whether the value has so many bytes at least; one that has not is
// malformed.
func (a *attrs) has(n int) bool {
	if len(a.value) < n {
		a.err = ErrMalformed
	}
	return a.err == nil
}

func (a *attrs) u8() (v uint8) {
	if a.has(1) {
		v = a.value[0]
	}
	return v
}

func (a *attrs) u16() (v uint16) {
	if a.has(2) {
		v = binary.NativeEndian.Uint16(a.value)
	}
	return v
}

// be16 reads what is in the order of the network, as Ethernet types are.
func (a *attrs) be16() (v uint16) {
	if a.has(2) {
		v = binary.BigEndian.Uint16(a.value)
	}
	return v
}

func (a *attrs) u32() (v uint32) {
	if a.has(4) {
		v = binary.NativeEndian.Uint32(a.value)
	}
	return v
}

// index reads the number of a link.
func (a *attrs) index() int { return int(int32(a.u32())) }

// addr reads an IP address of the family that its length tells; anything else
// gives none. Mapped addresses are left alone: the kernel has none of them as
// gateways, and unmapping one would move an entry to the other table.
func (a *attrs) addr() netip.Addr {
	addr, _ := netip.AddrFromSlice(a.value)
	return addr
}

// text reads a string, which ends with its value or before with a zero.
func (a *attrs) text() []byte {
	for i, c := range a.value {
		if c == 0 {
			return a.value[:i]
		}
	}
	return a.value
}

// addressOf reads an address of a family at the front of v; of another family, or
// where there is too little, it gives none.
func addressOf(family uint16, v []byte) netip.Addr {
	switch {
	case family == unix.AF_INET && len(v) >= 4:
		return netip.AddrFrom4([4]byte(v))
	case family == unix.AF_INET6 && len(v) >= 16:
		return netip.AddrFrom16([16]byte(v))
	}
	return netip.Addr{}
}
