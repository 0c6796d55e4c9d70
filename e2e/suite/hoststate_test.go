// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// deadMAC is of a pod that is gone.
const deadMAC = "02:de:ad:00:00:01"

// leftovers are what a CNI's deletion that never ran has left for the addresses of the next pod, beside a live pod with entries and
// rules that are right.
type leftovers struct {
	next4, next6 netip.Addr
	other        *node.Pod
	container    *node.Container // of other
	right        string          // what is the live pod's, before
}

// plant runs the live pod on the segment's bridge, and leaves things for the pod after it.
func plant(t *testing.T, state string) *leftovers {
	t.Helper()
	makeBridge(t, segmentPrefixes...)
	ip(t, "link", "set", datapath.SegmentLink, "address", "02:00:00:00:00:aa") // one that stays, with its permanent entries
	l := &leftovers{other: runPod(t, node.PodSpec{Namespace: "bridge", Handler: "runc", Annotations: optIn})}
	l.container = runContainer(t, l.other)
	l.next4, l.next6 = l.other.Addresses[0].Next(), l.other.Addresses[1].Next()

	mac := podMAC(t, l.other)
	ip(t, "neighbor", "replace", l.other.Addresses[0].String(), "lladdr", mac, "dev", datapath.SegmentLink, "nud", "permanent")
	rule(t, "PREROUTING", "-p", "ARP", "--arp-ip-dst", l.other.Addresses[0].String(), "-j", "arpreply", "--arpreply-mac", mac)
	l.right = l.lives(t)

	ip(t, "neighbor", "replace", l.next4.String(), "lladdr", deadMAC, "dev", datapath.SegmentLink, "nud", state)
	ip(t, "neighbor", "replace", l.next6.String(), "lladdr", deadMAC, "dev", datapath.SegmentLink, "nud", "permanent")
	rule(t, "PREROUTING", "-p", "ARP", "--arp-op", "Request", "--arp-ip-dst", l.next4.String(), "-j", "arpreply", "--arpreply-mac", deadMAC)
	rule(t, "PREROUTING", "-p", "IPv4", "--ip-dst", l.next4.String(), "-j", "dnat", "--to-dst", deadMAC)
	nativeRule(t, l.next6)
	return l
}

// rule appends a rule of ebtables-nft and takes it away at the end, if it is still there.
func rule(t *testing.T, chain string, args ...string) {
	t.Helper()
	ebtables(t, append([]string{"-t", "nat", "-A", chain}, args...)...)
	t.Cleanup(func() {
		_ = exec.Command("ebtables-nft", append([]string{"-t", "nat", "-D", chain}, args...)...).Run()
	})
}

// nativeRule makes a table of its own, with a rule as nft makes it: ip6 daddr next ether daddr set deadMAC.
func nativeRule(t *testing.T, next netip.Addr) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyBridge, Name: "left"})
	chain := c.AddChain(&nftables.Chain{Name: "pods", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityFilter})
	mac, err := net.ParseMAC(deadMAC)
	if err != nil {
		t.Fatal(err)
	}
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0x86, 0xdd}},
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16, DestRegister: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: next.AsSlice()},
		&expr.Counter{},
		&expr.Immediate{Register: 1, Data: mac},
		&expr.Payload{OperationType: expr.PayloadWrite, Base: expr.PayloadBaseLLHeader, Offset: 0, Len: 6, SourceRegister: 1},
	}})
	if err := c.Flush(); err != nil {
		t.Fatalf("make a rule of nft: %v", err)
	}
	t.Cleanup(func() {
		c.DelTable(table)
		if err := c.Flush(); err != nil {
			t.Error(err)
		}
	})
}

// podMAC is the address of the pod's own link.
func podMAC(t *testing.T, pod *node.Pod) (mac string) {
	t.Helper()
	err := datapath.Inside(pod.NetNS, func() error {
		link, err := net.InterfaceByName("eth0")
		if err == nil {
			mac = link.HardwareAddr.String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

// lives is everything permanent and every rule that names the live pod, on the node, and the live pod's own permanent neighbors.
func (l *leftovers) lives(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for line := range strings.Lines(output(t, "ip", "neighbor", "show", "nud", "permanent") + output(t, "ebtables-nft", "-t", "nat", "-L")) {
		if strings.Contains(line, l.other.Addresses[0].String()+" ") {
			all.WriteString(line)
		}
	}
	err := datapath.Inside(l.other.NetNS, func() error {
		out, err := exec.Command("ip", "neighbor", "show", "nud", "permanent").Output()
		all.Write(out)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// survived checks that all of the live pod's is as it was.
func (l *leftovers) survived(t *testing.T) {
	t.Helper()
	if now := l.lives(t); now != l.right || strings.Count(now, "\n") != 4 {
		t.Errorf("the live pod's was\n%s\nis\n%s", l.right, now)
	}
}

// reachedByTheOther says whether the live pod, which has learned nothing, gets an answer from the new one. The command is the workload's,
// connect or try.
func (l *leftovers) reachedByTheOther(t *testing.T, command string) error {
	t.Helper()
	err := datapath.Inside(l.other.NetNS, func() error {
		return exec.Command("ip", "neighbor", "flush", "to", l.next4.String()).Run()
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.container.Exec(t.Context(), command, l.next4.String()+":9")
	return err
}

// next fails when the pod is not the one that things were left for.
func (l *leftovers) next(t *testing.T, pod *node.Pod) {
	t.Helper()
	if !slices.Equal(pod.Addresses, []netip.Addr{l.next4, l.next6}) {
		t.Fatalf("the pod has %v, and things were left for %s and %s", pod.Addresses, l.next4, l.next6)
	}
}

// hostStateReport is what `neighpin host-state -o json` prints.
type hostStateReport struct {
	Finds []node.Find `json:"finds"`
}

// hostState runs the command and says whether it found something.
func hostState(t *testing.T, args ...string) (report hostStateReport, found bool) {
	t.Helper()
	out, code, err := bed.CLI(t.Context(), append([]string{"host-state", "-o", "json"}, args...)...)
	if err != nil && code != 3 {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return report, code == 3
}

// toGateways are connections to what the bridge itself holds: what is answered goes straight to the pod.
func toGateways() []string { return node.Targets()[:2] }

// What is left leads what is for the new pod to nobody; report says so and changes nothing, and by hand it is removed.
func TestHostStateReportedAndCleanedByHand(t *testing.T) {
	var l *leftovers
	row(t, rowSpec{name: "bridge", leftovers: true, before: func(t *testing.T, _ *rowRun) { l = plant(t, "permanent") }}, func(t *testing.T, r *rowRun) {
		l.next(t, r.pod)
		r.becomes(t, "the status to have five finds", func() error {
			if n := len(r.sandbox.HostState.Finds); n != 5 {
				return fmt.Errorf("it has %+v", r.sandbox.HostState)
			}
			return nil
		})
		for _, target := range toGateways() {
			if err := r.try(t, target); err == nil {
				t.Errorf("control: %s is reached although what it answers goes to nobody", target)
			}
		}
		if err := l.reachedByTheOther(t, "try"); err == nil {
			t.Error("control: the live pod reaches the new one although a rule answers for that")
		}
		l.survived(t)

		const stateDir = node.StateDir
		if report, found := hostState(t, "--state-dir", stateDir); !found || len(report.Finds) != 5 {
			t.Errorf("found %t: %+v", found, report)
		}
		report, _ := hostState(t, "--state-dir", stateDir, "--ip", l.next4.String()+","+l.next6.String(), "--clean")
		for _, f := range report.Finds {
			t.Logf("%+v", f)
			if !f.Removed || f.Restore == "" {
				t.Errorf("not removed: %+v", f)
			}
		}
		if report, found := hostState(t, "--state-dir", stateDir); found || len(report.Finds) != 0 {
			t.Errorf("after clean: %+v", report)
		}
		r.reaches(t, toGateways()...)
		if err := l.reachedByTheOther(t, "connect"); err != nil {
			t.Error(err)
		}
		l.survived(t)
	})
}

// With clean the new pod's first connection works, also where the host had learned the old MAC a moment ago, as when an IP is used
// again within seconds.
func TestHostStateCleanedAtTheStart(t *testing.T) {
	for _, state := range []string{"permanent", "stale"} {
		t.Run(state, func(t *testing.T) {
			var l *leftovers
			row(t, rowSpec{name: "bridge", args: []string{"--host-state", "clean"}, leftovers: true, before: func(t *testing.T, _ *rowRun) { l = plant(t, state) }}, func(t *testing.T, r *rowRun) {
				l.next(t, r.pod)
				r.reaches(t, toGateways()...)
				if err := l.reachedByTheOther(t, "connect"); err != nil {
					t.Error(err)
				}
				r.becomes(t, "the status to have five finds, removed", func() error {
					if finds := r.sandbox.HostState.Finds; len(finds) != 5 || slices.ContainsFunc(finds, func(f node.Find) bool { return !f.Removed }) {
						return fmt.Errorf("it has %+v", r.sandbox.HostState)
					}
					return nil
				})
				l.survived(t)
			})
		})
	}
}

// nothingLeft checks that what the datapath itself makes on the node is not taken for something that others left.
func (r *rowRun) nothingLeft(t *testing.T) {
	t.Helper()
	if r.d == nil {
		return
	}
	said, err := r.d.Sandbox(t.Context(), r.pod)
	if err != nil {
		return // the test has ended the daemon or the pod
	}
	if len(said.HostState.Finds) != 0 {
		t.Errorf("found on the node: %+v", said.HostState.Finds)
	}
}

// resolutions are the frames on the pod's link by which somebody looks for somebody, in either direction, since the pod was run.
// What looks for duplicates of the sender's own address, from no address, is none.
func (r *rowRun) resolutions() (found []wire.Message) {
	for _, m := range r.wire.Messages(wire.Query{Link: r.pod.HostLink, Since: r.begin}) {
		if m.Sender.IsValid() && !m.Sender.IsUnspecified() {
			found = append(found, m)
		}
	}
	return found
}

// knock opens a connection from the node to the pod, which refuses it.
func knock(t *testing.T, pod *node.Pod) {
	t.Helper()
	for _, address := range pod.Addresses {
		connection, err := net.DialTimeout("tcp", netip.AddrPortFrom(address, 9).String(), patience)
		if err == nil {
			connection.Close()
		}
		if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("the node does not reach the pod: %v", err)
		}
	}
}

// The first connections of a fresh pod, its own and the node's to it, need no question in either direction.
func TestWayBackIsSilentInBothDirections(t *testing.T) {
	for _, name := range []string{"default", "calico-silent", "cilium-silent"} {
		spec := rowSpec{name: name, args: []string{"--return-path"}}
		if name == "calico-silent" {
			spec.before = uplink
		}
		row(t, spec, func(t *testing.T, r *rowRun) {
			targets := node.Beyond()
			r.becomes(t, "the status to have the way back", func() error {
				if len(r.sandbox.ReturnPath) < 2 {
					return fmt.Errorf("it has %+v", r.sandbox.ReturnPath)
				}
				return nil
			})
			knock(t, r.pod)
			r.reaches(t, targets...)
			if found := r.resolutions(); len(found) != 0 {
				t.Errorf("want no frame by which somebody looks for somebody:\n%s", wire.Format(found))
			}
			link := r.pod.HostLink
			if name == "default" {
				keptAndTakenBack(t, r, link)
			}
			// The capture is not blind: without the entries there is a question.
			ip(t, "neighbor", "flush", "dev", link, "nud", "all")
			knock(t, r.pod)
			if found := r.resolutions(); len(found) == 0 {
				t.Errorf("the capture recorded no question on %s even now; the silence proves nothing", link)
			}
		})
	}
}

// keptAndTakenBack ends the daemon, which keeps the way back, and takes it away by the record.
func keptAndTakenBack(t *testing.T, r *rowRun, link string) {
	t.Helper()
	before := output(t, "ip", "neighbor", "show", "dev", link, "nud", "permanent")
	if strings.Count(before, podMAC(t, r.pod)) != len(r.sandbox.ReturnPath) {
		t.Errorf("the host has\n%s\nthe status %+v", before, r.sandbox.ReturnPath)
	}
	if err := r.d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := output(t, "ip", "neighbor", "show", "dev", link, "nud", "permanent"); now != before {
		t.Errorf("the daemon's end changed\n%s\nto\n%s", before, now)
	}
	out, _, err := bed.CLI(t.Context(), "unpin", "--all", "--state-dir", node.StateDir)
	if err != nil {
		t.Error(err)
	}
	t.Log(out)
	if now := output(t, "ip", "neighbor", "show", "dev", link, "nud", "permanent"); now != "" {
		t.Errorf("left by unpin --all:\n%s", now)
	}
}

// Without it the node asks for the pod: the check of silence is not blind.
func TestWayBackControl(t *testing.T) {
	row(t, rowSpec{name: "default"}, func(t *testing.T, r *rowRun) {
		knock(t, r.pod)
		r.reaches(t, node.Targets()...)
		found := r.resolutions()
		if !slices.ContainsFunc(found, func(m wire.Message) bool { return !m.Incoming && m.Kind == wire.ARPRequest }) {
			t.Errorf("the node has not asked for the pod:\n%s", wire.Format(found))
		}
	})
}

// On a bridge nothing is written, and a removed pod leaves nothing.
func TestWayBackNeverOnABridgeAndGoneWithThePod(t *testing.T) {
	row(t, rowSpec{name: "bridge", args: []string{"--return-path"}, before: func(t *testing.T, _ *rowRun) { makeBridge(t, segmentPrefixes...) }}, func(t *testing.T, r *rowRun) {
		r.reaches(t, toGateways()...)
		if now := output(t, "ip", "neighbor", "show", "nud", "permanent"); now != "" || len(r.sandbox.ReturnPath) != 0 {
			t.Errorf("status %+v, the host has\n%s", r.sandbox.ReturnPath, now)
		}
		pod, err := bed.RunPod(t.Context(), node.PodSpec{Handler: "runsc"})
		if err != nil {
			t.Fatal(err)
		}
		var said node.Sandbox
		if said, err = started(t.Context(), r.d, pod); err != nil {
			t.Fatal(err)
		}
		if err := pod.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		err = await.Within(t.Context(), patience, "nothing to be left of "+said.ID, func() error {
			if now := output(t, "ip", "neighbor", "show", "nud", "permanent"); now != "" {
				return fmt.Errorf("the host has\n%s", now)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
