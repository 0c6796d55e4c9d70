// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Offsets within a frame that starts with an Ethernet header, and what a tcx program may answer (linux/bpf.h, enum
// tcx_action_base; -1 leaves the frame to the next program and then to the kernel).
const (
	etherDst, etherSrc, etherType                  = 0, 6, 12
	arpOp, arpSHA, arpSPA, arpTHA, arpTPA, arpEnd  = 20, 22, 28, 32, 38, 42
	ip6Next, ip6Src, ip6Dst                        = 20, 22, 38
	icmpType, icmpCsum, icmpFlags, ndTarget, ndOpt = 54, 56, 58, 62, 78
	ndEnd                                          = 86

	tcxNext, tcxDrop = -1, 2
)

// frameAt is where the programs below keep the frame on their stack.
const frameAt = -88

// responder is who answers for the gateways, in the place of the kernel: ARP for any address but the pod's own, neighbor
// solicitations for the router's address alone. What else is solicited is dropped. Those are Cilium's rules (bpf/bpf_lxc.c
// and bpf/lib/icmp6.h).
type responder struct {
	mac    net.HardwareAddr
	pod4   netip.Addr
	router netip.Addr
}

// attach puts the responder on the ingress of a link of the calling thread's namespace. It stays until the link goes.
func (r responder) attach(index int) error { return r.attachAt(index, nil) }

// Respond puts another responder on the ingress of a link of the node, before all programs that are there. It answers for any
// IPv4 address but one, which would be the pod's, and for the router.
func Respond(hostLink, pod4, router string) error {
	end, err := net.InterfaceByName(hostLink)
	if err != nil {
		return fmt.Errorf("find %s: %w", hostLink, err)
	}
	own, err := netip.ParseAddr(pod4)
	if err != nil {
		return err
	}
	r := responder{mac: end.HardwareAddr, pod4: own}
	if r.router, err = netip.ParseAddr(router); err != nil {
		return err
	}
	return r.attachAt(end.Index, link.Head())
}

// attachAt is attach with a place among the programs that are there; nil is the last.
func (r responder) attachAt(index int, place link.Anchor) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "responder", Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: r.instructions()})
	if err != nil {
		if verifier, ok := errors.AsType[*ebpf.VerifierError](err); ok {
			return fmt.Errorf("load the responder: %w\n%s", err, strings.Join(verifier.Log, "\n"))
		}
		return fmt.Errorf("load the responder: %w", err)
	}
	defer program.Close()
	// Without a bpf_link, which would end with this process.
	if err := link.RawAttachProgram(link.RawAttachProgramOptions{Target: index, Program: program, Attach: ebpf.AttachTCXIngress, Anchor: place}); err != nil {
		return fmt.Errorf("attach the responder: %w", err)
	}
	return nil
}

func (r responder) instructions() asm.Instructions {
	pod, router := r.pod4.As4(), r.router.As16()
	p := program{asm.Mov.Reg(asm.R6, asm.R1)}

	p.load(arpEnd, "nd")
	p.unless(etherType, be16(unix.ETH_P_ARP), "nd")
	p.unless(arpOp, be16(1), "pass")
	p.unlessSame(arpTPA, pod[:], "answer")
	p.add(asm.Ja.Label("pass"))
	p.label("answer")
	p.move(etherDst, etherSrc, 6)
	p.set(etherSrc, r.mac)
	p.set(arpOp, be16(2))
	p.move(arpTHA, arpSHA, 6)
	p.set(arpSHA, r.mac)
	p.exchange(arpSPA, arpTPA, 4)
	p.send(arpEnd)

	p.label("nd")
	p.load(ndEnd, "pass")
	p.unless(etherType, be16(unix.ETH_P_IPV6), "pass")
	p.unlessByte(ip6Next, unix.IPPROTO_ICMPV6, "pass")
	p.unlessByte(icmpType, 135, "pass")
	p.unlessSame(ndTarget, router[:], "drop")
	p.move(etherDst, etherSrc, 6)
	p.set(etherSrc, r.mac)
	p.move(ip6Dst, ip6Src, 16)
	p.set(ip6Src, router[:])
	p.set(icmpType, []byte{136, 0, 0, 0, 0xe0, 0, 0, 0}) // router, solicited, override
	p.set(ndOpt, append([]byte{2, 1}, r.mac...))
	p.checksum()
	p.send(ndEnd)

	p.label("drop")
	p.add(asm.Mov.Imm(asm.R0, tcxDrop), asm.Return())
	p.label("pass")
	p.add(asm.Mov.Imm(asm.R0, tcxNext), asm.Return())
	return asm.Instructions(p)
}

// program is a few words for frames on the stack. R6 keeps the context.
type program asm.Instructions

func (p *program) add(instructions ...asm.Instruction) { *p = append(*p, instructions...) }

// label names the instruction that comes next.
func (p *program) label(name string) { p.add(asm.Mov.Reg(asm.R6, asm.R6).WithSymbol(name)) }

// load copies the first n bytes of the frame to the stack, and goes elsewhere if there are fewer.
func (p *program) load(n int32, elsewhere string) {
	p.add(asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, 0), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, frameAt),
		asm.Mov.Imm(asm.R4, n), asm.FnSkbLoadBytes.Call(), asm.JNE.Imm(asm.R0, 0, elsewhere))
}

// send writes the n bytes back and returns the frame to where it came from.
func (p *program) send(n int32) {
	p.add(asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, 0), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, frameAt),
		asm.Mov.Imm(asm.R4, n), asm.Mov.Imm(asm.R5, 0), asm.FnSkbStoreBytes.Call(), asm.JNE.Imm(asm.R0, 0, "drop"),
		asm.LoadMem(asm.R1, asm.R6, 40, asm.Word), // __sk_buff.ifindex
		asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return())
}

// checksum fills in that of the neighbor advertisement: of its addresses, which stand before it, its length and its protocol.
func (p *program) checksum() {
	p.add(asm.Mov.Imm(asm.R1, 0), asm.Mov.Imm(asm.R2, 0), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, frameAt+ip6Src),
		asm.Mov.Imm(asm.R4, ndEnd-ip6Src), asm.Mov.Imm(asm.R5, half(be16(ndEnd-icmpType+unix.IPPROTO_ICMPV6))), asm.FnCsumDiff.Call())
	for range 2 {
		p.add(asm.Mov.Reg(asm.R1, asm.R0), asm.RSh.Imm(asm.R1, 16), asm.And.Imm(asm.R0, 0xffff), asm.Add.Reg(asm.R0, asm.R1))
	}
	p.add(asm.Xor.Imm(asm.R0, 0xffff), asm.StoreMem(asm.RFP, frameAt+icmpCsum, asm.R0, asm.Half))
}

// unless goes elsewhere if two bytes are not what is wanted.
func (p *program) unless(offset int16, want []byte, elsewhere string) {
	p.add(asm.LoadMem(asm.R1, asm.RFP, frameAt+offset, asm.Half), asm.JNE.Imm(asm.R1, half(want), elsewhere))
}

func (p *program) unlessByte(offset int16, want int32, elsewhere string) {
	p.add(asm.LoadMem(asm.R1, asm.RFP, frameAt+offset, asm.Byte), asm.JNE.Imm(asm.R1, want, elsewhere))
}

func (p *program) unlessSame(offset int16, want []byte, elsewhere string) {
	for i := 0; i < len(want); i += 2 {
		p.unless(offset+int16(i), want[i:i+2], elsewhere)
	}
}

// move copies n bytes, two at a time: the stack wants aligned access, and every field is at an even offset.
func (p *program) move(to, from, n int16) {
	for i := int16(0); i < n; i += 2 {
		p.add(asm.LoadMem(asm.R1, asm.RFP, frameAt+from+i, asm.Half), asm.StoreMem(asm.RFP, frameAt+to+i, asm.R1, asm.Half))
	}
}

func (p *program) exchange(a, b, n int16) {
	for i := int16(0); i < n; i += 2 {
		p.add(asm.LoadMem(asm.R1, asm.RFP, frameAt+a+i, asm.Half), asm.LoadMem(asm.R2, asm.RFP, frameAt+b+i, asm.Half),
			asm.StoreMem(asm.RFP, frameAt+a+i, asm.R2, asm.Half), asm.StoreMem(asm.RFP, frameAt+b+i, asm.R1, asm.Half))
	}
}

func (p *program) set(offset int16, value []byte) {
	for i := 0; i < len(value); i += 2 {
		p.add(asm.StoreImm(asm.RFP, frameAt+offset+int16(i), int64(half(value[i:i+2])), asm.Half))
	}
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

// half is how a program reads two bytes of the frame.
func half(b []byte) int32 { return int32(binary.NativeEndian.Uint16(b)) }
