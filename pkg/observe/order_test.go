// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

// What a program of traffic control answers.
const actShot = 2

// cni is a CNI plugin's program: it counts every ARP frame and answers for it what
// it is told to, and leaves all else alone.
type cni struct {
	tb      testing.TB
	program *ebpf.Program
	seen    *ebpf.Map
}

func newCNI(t testing.TB, verdict int32) *cni {
	t.Helper()
	seen, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = seen.Close() })
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: asm.Instructions{
		asm.LoadMem(asm.R1, asm.R1, skbProtocol, asm.Word),
		asm.JNE.Imm(asm.R1, network(unix.ETH_P_ARP), "next"),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, seen.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4), asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "next"),
		asm.Mov.Imm(asm.R1, 1), asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, verdict), asm.Return(),
		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("next"), asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return &cni{tb: t, program: program, seen: seen}
}

// saw is how many ARP frames it has decided about.
func (c *cni) saw() uint64 {
	c.tb.Helper()
	value := make([]byte, 8)
	if err := c.seen.Lookup(uint32(0), value); err != nil {
		c.tb.Fatal(err)
	}
	return binary.NativeEndian.Uint64(value)
}

// awaitSaw waits until it has decided about so many frames, the last of which may be under way yet.
func (c *cni) awaitSaw(want uint64) {
	c.tb.Helper()
	nstest.Eventually(c.tb, fmt.Sprintf("the plugin's program to have decided about %d frames", want), func() bool { return c.saw() >= want })
	if saw := c.saw(); saw != want {
		c.tb.Errorf("the plugin's program decided about %d frames, want %d", saw, want)
	}
}

// tcx attaches it before or after what is there, until the end of the test.
func (c *cni) tcx(index int, anchor link.Anchor) {
	c.tb.Helper()
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: c.program, Attach: ebpf.AttachTCXIngress, Anchor: anchor})
	if err != nil {
		c.tb.Fatal(err)
	}
	c.tb.Cleanup(func() { _ = l.Close() })
}

// clsact attaches it as a filter of a clsact qdisc, the way of plugins on kernels
// without tcx.
func (c *cni) clsact(index int) {
	c.tb.Helper()
	qdisc := &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := netlink.QdiscReplace(qdisc); err != nil {
		c.tb.Fatal(err)
	}
	if err := netlink.FilterAdd(c.filter(index)); err != nil {
		c.tb.Fatal(err)
	}
}

func (c *cni) filter(index int) *netlink.BpfFilter {
	return &netlink.BpfFilter{Fd: c.program.FD(), Name: "cni", DirectAction: true, FilterAttrs: netlink.FilterAttrs{
		LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1,
	}}
}

// ways are how a CNI plugin's program and ours come to one link.
var ways = map[string]func(b *bed, c *cni, observe func()){
	"tcx, ours later": func(b *bed, c *cni, observe func()) {
		c.tcx(b.end, link.Tail())
		observe()
	},
	"tcx, ours earlier": func(b *bed, c *cni, observe func()) {
		observe()
		c.tcx(b.end, link.Tail())
	},
	"tcx that puts itself first, and ours looks again": func(b *bed, c *cni, observe func()) {
		observe()
		c.tcx(b.end, link.Head())
		observe()
	},
	"clsact, ours later": func(b *bed, c *cni, observe func()) {
		c.clsact(b.end)
		observe()
	},
	"clsact, ours earlier": func(b *bed, c *cni, observe func()) {
		observe()
		c.clsact(b.end)
	},
}

// In whatever order they come, the plugin's program decides about every frame as if
// it were alone, and ours has counted it.
func TestThePluginsProgramDecides(t *testing.T) {
	for name, attach := range ways {
		for verdict, answered := range map[int32]bool{actShot: false, tcxNext: true} {
			t.Run(name+map[bool]string{true: ", lets pass", false: ", drops"}[answered], func(t *testing.T) {
				b := connect(t, "obs0")
				b.host.IP("addr add 10.77.0.1/24 dev obs0")
				b.pod.IP("addr add 10.77.0.2/24 dev eth0")
				o := observer(t)
				c := newCNI(t, verdict)
				attach(b, c, func() { b.observe(o, "a") })
				// The host learns the sender of a request that it answers, and of no
				// other frame here.
				b.send(ether(unix.ETH_P_ARP, arp(1, self4, gateway4)), ether(unix.ETH_P_ARP, arp(1, self4, other4)),
					ether(unix.ETH_P_ARP, arp(1, self4, other4)))
				want(t, o, "a", 1, 2)
				c.awaitSaw(3)
				learnt := func() bool { return b.host.Output("neigh", "show", "10.77.0.2", "dev", "obs0") != "" }
				if answered {
					nstest.Eventually(t, "the host to take the request in", learnt)
				} else if learnt() {
					t.Error("the host took in a request that the plugin's program dropped")
				}
				o.Forget("a")
				b.send(ether(unix.ETH_P_ARP, arp(1, self4, gateway4)))
				c.awaitSaw(4)
			})
		}
	}
}

// A program that puts itself first and answers leaves nothing to count; the next
// look mends that. Without it the row above would prove nothing.
func TestAProgramInFrontBlinds(t *testing.T) {
	b := connect(t, "obs0")
	o := observer(t)
	b.observe(o, "a")
	c := newCNI(t, actShot)
	c.tcx(b.end, link.Head())
	ask := ether(unix.ETH_P_ARP, arp(1, self4, gateway4))
	b.send(ask)
	c.awaitSaw(1)
	want(t, o, "a", 0, 0)
	b.observe(o, "a")
	b.send(ask)
	want(t, o, "a", 1, 0)
}

// A plugin replaces its program or its filter while ours is there.
func TestThePluginRestarts(t *testing.T) {
	b := connect(t, "obs0")
	o := observer(t)
	old := newCNI(t, actShot)
	old.clsact(b.end)
	b.observe(o, "a")
	if err := netlink.FilterDel(old.filter(b.end)); err != nil {
		t.Fatal(err)
	}
	if err := netlink.QdiscDel(&netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: b.end, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}); err != nil {
		t.Fatal(err)
	}
	next := newCNI(t, actShot)
	next.clsact(b.end)
	b.send(ether(unix.ETH_P_ARP, arp(1, self4, gateway4)))
	want(t, o, "a", 1, 0)
	next.awaitSaw(1)
	if old.saw() != 0 {
		t.Errorf("the old filter decided about %d frames", old.saw())
	}
	if n := len(programs(t, b.end)); n != 1 {
		t.Errorf("%d tcx programs, want ours alone", n)
	}
}
