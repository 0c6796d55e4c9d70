// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// loseFirst loses the pod's first question for each gateway, as a segment does that is overrun or whose links only just came up: a
// program on the host's end drops the first ARP request and the first neighbor solicitation for them. A capture on the host's end
// sees both all the same; the kernel, which answers the next, does not.
func loseFirst(_ *Env, result *current.Result) error {
	if len(result.Interfaces) == 0 {
		return errors.New("the result names no links")
	}
	end, err := netlink.LinkByName(result.Interfaces[0].Name)
	if err != nil {
		return fmt.Errorf("find %s: %w", result.Interfaces[0].Name, err)
	}
	var gateways [2]netip.Addr
	for _, ip := range result.IPs {
		if gateway := addr(ip.Gateway); gateway.Is4() {
			gateways[0] = gateway
		} else {
			gateways[1] = gateway
		}
	}
	if !gateways[0].Is4() || !gateways[1].Is6() {
		return fmt.Errorf("find the gateways of both families: the result has %v", gateways)
	}
	seen, err := ebpf.NewMap(&ebpf.MapSpec{Name: "seen", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 2})
	if err != nil {
		return fmt.Errorf("make the map of questions: %w", err)
	}
	defer seen.Close()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "lose_first", Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: losing(seen.FD(), gateways)})
	if err != nil {
		return fmt.Errorf("load the program that loses questions: %w", err)
	}
	defer program.Close()
	// The program keeps its map, and the link keeps the program.
	if err := link.RawAttachProgram(link.RawAttachProgramOptions{Target: end.Attrs().Index, Program: program, Attach: ebpf.AttachTCXIngress}); err != nil {
		return fmt.Errorf("attach the program that loses questions: %w", err)
	}
	return nil
}

// losing marks which gateways, of IPv4 and IPv6, were asked for, and drops what asks for one for the first time.
func losing(seen int, gateways [2]netip.Addr) asm.Instructions {
	const key = frameAt - 4
	gateway4, gateway6 := gateways[0].As4(), gateways[1].As16()
	p := program{asm.Mov.Reg(asm.R6, asm.R1)}
	p.load(arpEnd, "nd")
	p.unless(etherType, be16(unix.ETH_P_ARP), "nd")
	p.unless(arpOp, be16(1), "pass")
	p.unlessSame(arpTPA, gateway4[:], "pass")
	p.add(asm.StoreImm(asm.RFP, key, 0, asm.Word), asm.Ja.Label("count"))

	p.label("nd")
	p.load(ndEnd, "pass")
	p.unless(etherType, be16(unix.ETH_P_IPV6), "pass")
	p.unlessByte(ip6Next, unix.IPPROTO_ICMPV6, "pass")
	p.unlessByte(icmpType, 135, "pass")
	p.unlessSame(ndTarget, gateway6[:], "pass")
	p.add(asm.StoreImm(asm.RFP, key, 1, asm.Word))

	p.label("count")
	p.add(asm.LoadMapPtr(asm.R1, seen), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, key), asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word), asm.JNE.Imm(asm.R1, 0, "pass"),
		asm.StoreImm(asm.R0, 0, 1, asm.Word),
		asm.Mov.Imm(asm.R0, tcxDrop), asm.Return())
	p.label("pass")
	p.add(asm.Mov.Imm(asm.R0, tcxNext), asm.Return())
	return asm.Instructions(p)
}
