// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// response is one of the kernel's.
type response struct {
	kind, flags uint16
	number      uint32 // of the request that it answers
	body        []byte
}

// next takes a message from the front of what was received.
func next(rest *[]byte) (m response, ok bool) {
	b := *rest
	if len(b) < unix.SizeofNlMsghdr {
		return m, false
	}
	length := int(binary.NativeEndian.Uint32(b))
	if length < unix.SizeofNlMsghdr {
		return m, false
	}
	m = response{kind: binary.NativeEndian.Uint16(b[4:]), flags: binary.NativeEndian.Uint16(b[6:]), number: binary.NativeEndian.Uint32(b[8:]),
		body: b[unix.SizeofNlMsghdr:min(length, len(b))]}
	*rest = b[min(align(length), len(b)):]
	return m, true
}

func (m response) interrupted() bool { return m.flags&unix.NLM_F_DUMP_INTR != 0 }

// failure is what NLMSG_ERROR or NLMSG_DONE says, with the kernel's own words if
// it has some; nil if all is well.
func (m response) failure() error {
	if len(m.body) < 4 {
		if m.kind == unix.NLMSG_ERROR {
			return ErrMalformed
		}
		return nil
	}
	code := int32(binary.NativeEndian.Uint32(m.body))
	if code >= 0 {
		return nil
	}
	err := unix.Errno(-code)
	if m.kind != unix.NLMSG_ERROR || m.flags&unix.NLM_F_ACK_TLVS == 0 || len(m.body) < 4+unix.SizeofNlMsghdr {
		return err
	}
	// The request is repeated before the attributes, all or only its header.
	repeated := unix.SizeofNlMsghdr
	if m.flags&unix.NLM_F_CAPPED == 0 {
		repeated = int(binary.NativeEndian.Uint32(m.body[4:]))
	}
	for a := readAttrs(m.body, 4+repeated); a.next(); {
		if a.kind == unix.NLMSGERR_ATTR_MSG {
			return &refusal{errno: err, words: string(a.text())}
		}
	}
	return err
}
