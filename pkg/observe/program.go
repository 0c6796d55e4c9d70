// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"encoding/binary"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Offsets in struct __sk_buff, and what a tcx program answers to leave a frame to
// the next one (linux/bpf.h).
const (
	skbProtocol, skbIfindex = 16, 40
	tcxNext                 = -1
)

// Offsets behind the Ethernet header (RFC 826; RFC 8200 and RFC 4861).
const (
	etherLen = 14

	arpHardware, arpProtocol, arpLengths, arpOperation = 0, 2, 4, 6
	arpSender, arpTarget, arpEnd                       = 14, 24, 28

	ip6Next, ip6Hops, ip6Source = 6, 7, 8
	ndType, ndTarget, ndEnd     = 40, 48, 64
)

// Where the program keeps the packet, and the key of both maps, on its stack.
const (
	packetAt = -96
	keyAt    = -24
	addrAt   = keyAt + 4
)

// The values of the targets map.
const (
	ownQuestion uint32 = iota // somebody else on the host asks for it by way of the pod's link: not counted
	pinnedGateway
)

// countsSpec is the map of what was counted, by the number of the link. Who has no
// entry is not counted.
func countsSpec() *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: "neighpin_counts", Type: ebpf.Hash, KeySize: 4, ValueSize: 16, MaxEntries: maxEnds, Flags: unix.BPF_F_NO_PREALLOC}
}

// targetsSpec is the map of the addresses that are told from the others, by the
// number of the link and the address as IPv6 has it.
func targetsSpec() *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: "neighpin_target", Type: ebpf.Hash, KeySize: 20, ValueSize: 4, MaxEntries: maxTargets, Flags: unix.BPF_F_NO_PREALLOC}
}

// programSpec is the program. It reads and counts, and changes nothing.
//
// The protocol is taken from the kernel, which has put a VLAN tag aside by then
// (net/core/dev.c, skb_vlan_untag): tagged questions count as well. Who announces
// its own address, or looks whether somebody has it, asks for nobody: ARP from no
// address or for the sender's own, solicitations from the unspecified address.
func programSpec(counts, targets *ebpf.Map) *ebpf.ProgramSpec {
	p := program{asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, skbProtocol, asm.Word),
		asm.JEq.Imm(asm.R1, network(unix.ETH_P_ARP), "arp"),
		asm.JEq.Imm(asm.R1, network(unix.ETH_P_IPV6), "nd"),
		asm.Ja.Label("next")}
	p.arp()
	p.nd()
	p.count(counts, targets)
	return &ebpf.ProgramSpec{Name: "neighpin_asks", Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: asm.Instructions(p)}
}

// program is a few words for packets on the stack. R6 keeps the context.
type program asm.Instructions

func (p *program) add(instructions ...asm.Instruction) { *p = append(*p, instructions...) }

// arp goes on for a request for another's address.
func (p *program) arp() {
	p.load("arp", arpEnd)
	p.unless(arpHardware, 1)
	p.unless(arpProtocol, unix.ETH_P_IP)
	p.unless(arpLengths, 6<<8|4)
	p.unless(arpOperation, 1)
	// The sender's address is aligned to two bytes only.
	p.add(
		asm.LoadMem(asm.R1, asm.RFP, packetAt+arpSender, asm.Half), asm.LoadMem(asm.R2, asm.RFP, packetAt+arpSender+2, asm.Half),
		asm.LoadMem(asm.R3, asm.RFP, packetAt+arpTarget, asm.Half), asm.LoadMem(asm.R4, asm.RFP, packetAt+arpTarget+2, asm.Half),
		asm.Mov.Reg(asm.R5, asm.R1), asm.Or.Reg(asm.R5, asm.R2), asm.JEq.Imm(asm.R5, 0, "next"),
		asm.JNE.Reg(asm.R1, asm.R3, "another"), asm.JEq.Reg(asm.R2, asm.R4, "next"),
		asm.StoreImm(asm.RFP, addrAt, 0, asm.Word).WithSymbol("another"), asm.StoreImm(asm.RFP, addrAt+4, 0, asm.Word),
		asm.StoreImm(asm.RFP, addrAt+8, int64(network32(0xffff)), asm.Word),
		asm.LoadMem(asm.R1, asm.RFP, packetAt+arpTarget, asm.Word), asm.StoreMem(asm.RFP, addrAt+12, asm.R1, asm.Word),
		asm.Ja.Label("count"))
}

// nd goes on for a neighbor solicitation. One behind an extension header, which no
// stack sends, is not seen.
func (p *program) nd() {
	p.load("nd", ndEnd)
	p.unless(ip6Next, unix.IPPROTO_ICMPV6<<8|255) // and the hop limit
	p.unless(ndType, 135<<8)
	p.add(asm.LoadMem(asm.R1, asm.RFP, packetAt+ip6Source, asm.DWord), asm.LoadMem(asm.R2, asm.RFP, packetAt+ip6Source+8, asm.DWord),
		asm.Or.Reg(asm.R1, asm.R2), asm.JEq.Imm(asm.R1, 0, "next"))
	for i := int16(0); i < 16; i += 4 {
		p.add(asm.LoadMem(asm.R1, asm.RFP, packetAt+ndTarget+i, asm.Word), asm.StoreMem(asm.RFP, addrAt+i, asm.R1, asm.Word))
	}
}

// count adds one to what the link's entry has for the address at addrAt, and ends.
func (p *program) count(counts, targets *ebpf.Map) {
	p.add(asm.LoadMem(asm.R1, asm.R6, skbIfindex, asm.Word).WithSymbol("count"), asm.StoreMem(asm.RFP, keyAt, asm.R1, asm.Word))
	p.lookup(targets)
	p.add(asm.JEq.Imm(asm.R0, 0, "other"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word), asm.JNE.Imm(asm.R1, int32(pinnedGateway), "next"))
	p.lookup(counts)
	p.add(asm.JEq.Imm(asm.R0, 0, "next"), asm.Mov.Imm(asm.R1, 1), asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0), asm.Ja.Label("next"))

	p.add(asm.Mov.Reg(asm.R6, asm.R6).WithSymbol("other"))
	p.lookup(counts)
	p.add(asm.JEq.Imm(asm.R0, 0, "next"), asm.Mov.Imm(asm.R1, 1), asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 8))

	p.add(asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("next"), asm.Return())
}

// lookup looks for the key at keyAt: that of counts is the first part of the other's.
func (p *program) lookup(m *ebpf.Map) {
	p.add(asm.LoadMapPtr(asm.R1, m.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, keyAt), asm.FnMapLookupElem.Call())
}

// load copies what follows the Ethernet header to the stack; a frame that is too
// short asks for nothing.
func (p *program) load(label string, n int32) {
	p.add(asm.Mov.Reg(asm.R1, asm.R6).WithSymbol(label), asm.Mov.Imm(asm.R2, etherLen), asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, packetAt), asm.Mov.Imm(asm.R4, n), asm.FnSkbLoadBytes.Call(), asm.JNE.Imm(asm.R0, 0, "next"))
}

// unless ends for a packet that has not these two bytes.
func (p *program) unless(offset int16, want uint16) {
	p.add(asm.LoadMem(asm.R1, asm.RFP, packetAt+offset, asm.Half), asm.JNE.Imm(asm.R1, network(want), "next"))
}

// network is how a program reads two bytes in the network's order.
func network(v uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)))
}

func network32(v uint32) uint32 {
	return binary.NativeEndian.Uint32(binary.BigEndian.AppendUint32(nil, v))
}
