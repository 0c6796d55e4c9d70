// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/sockfilter"
)

// MaxEntries is how many addresses HearEntries tells apart. Programs are charged to
// the socket, the old one and the new one together, and older kernels allow 20 KiB
// for that (net.core.optmem_max).
const MaxEntries = 32

// HearEntries has notices of entries for these IP addresses only, in whatever
// namespace, from its return on: others are dropped before they wake anybody. Of
// these nothing is missed by a change from one list to another. More than MaxEntries
// are not told apart: then, and before the first call, there are notices of all.
//
// It may be called from any goroutine, by one at a time. After an error nothing is
// sure of what is heard.
func (l *Listener) HearEntries(of []netip.Addr) error {
	var failed error
	err := l.conn.Control(func(fd uintptr) {
		if len(of) <= MaxEntries {
			if sockfilter.Attach(int(fd), entryFilter(of)) == nil {
				return
			}
		}
		// None at all is as good, where the kernel has no room for it.
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); !errors.Is(err, unix.ENOENT) {
			failed = err
		}
	})
	return errors.Join(err, failed)
}

// all is what a filter returns to let a message through, whole.
const all = 1<<32 - 1

// entryFilter lets through all but messages about entries of other addresses, and
// about what bridges and tunnels have of the kind. The kernel sends these one by
// one (net/core/neighbour.c, __neigh_notify), so that only the first message is
// looked at. What it cannot read it lets through.
func entryFilter(of []netip.Addr) []bpf.Instruction {
	const (
		family     = unix.SizeofNlMsghdr
		attributes = unix.SizeofNlMsghdr + unix.SizeofNdMsg
	)
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 4, Size: 2}, // nlmsg_type
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: nativeHalf(unix.RTM_NEWNEIGH), SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: nativeHalf(unix.RTM_DELNEIGH), SkipTrue: 1},
		bpf.RetConstant{Val: all},
		bpf.LoadAbsolute{Off: family, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_INET, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_INET6, SkipTrue: 1},
		bpf.RetConstant{},
		bpf.StoreScratch{Src: bpf.RegA, N: 0},
		bpf.LoadConstant{Dst: bpf.RegA, Val: attributes},
		bpf.LoadConstant{Dst: bpf.RegX, Val: netlink.NDA_DST},
		bpf.LoadExtension{Num: bpf.ExtNetlinkAttr}, // where the attribute is
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 1},
		bpf.RetConstant{Val: all},
		bpf.TAX{},
	}
	for _, dst := range of {
		words := dst.AsSlice()
		rest := len(words) / 4 * 2 // of this address, after the one that is compared
		program = append(program, bpf.LoadScratch{Dst: bpf.RegA, N: 0},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(FamilyOf(dst)), SkipTrue: uint8(rest + 1)})
		for off := uint32(unix.SizeofNlAttr); len(words) > 0; off, words = off+4, words[4:] {
			rest -= 2
			program = append(program, bpf.LoadIndirect{Off: off, Size: 4},
				bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(words), SkipTrue: uint8(rest + 1)})
		}
		program = append(program, bpf.RetConstant{Val: all})
	}
	return append(program, bpf.RetConstant{})
}

// nativeHalf is how a filter, which reads in the network's order, sees a number
// that stands in the processor's.
func nativeHalf(n uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n)))
}
