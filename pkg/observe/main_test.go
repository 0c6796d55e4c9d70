// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// observeEnv makes this program observe the link of that number until it is killed.
const observeEnv = "NEIGHPIN_TEST_OBSERVE"

func TestMain(m *testing.M) {
	if index := os.Getenv(observeEnv); index != "" {
		observeForever(index)
	}
	nstest.MainInside(m)
}

func observeForever(text string) {
	index, err := strconv.Atoi(text)
	if err == nil {
		var o *Observer
		if o, err = New(); err == nil {
			err = o.Observe("a", ends(index), always)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, "observing")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the other end is closed
	os.Exit(1)
}

// The pod's gateways, and an address that is none.
var (
	gateway4 = netip.MustParseAddr("10.77.0.1")
	gateway6 = netip.MustParseAddr("fe80::1")
	learned4 = netip.MustParseAddr("10.77.0.3")
	other4   = netip.MustParseAddr("10.77.0.9")
	other6   = netip.MustParseAddr("fd77::9")
	self4    = netip.MustParseAddr("10.77.0.2")
	self6    = netip.MustParseAddr("fd77::2")
)

func always(int) (bool, error) { return true, nil }

// ends are other ends behind which are the gateways.
func ends(indices ...int) map[int]map[netip.Addr]bool {
	m := make(map[int]map[netip.Addr]bool)
	for _, index := range indices {
		m[index] = map[netip.Addr]bool{gateway4: true, gateway6: true, learned4: false}
	}
	return m
}

// bed is a pod that is connected to the namespace of this process.
type bed struct {
	tb   testing.TB
	host *nstest.NS
	pod  *nstest.NS
	name string // of the host's end
	end  int    // and its number
}

// connect makes a pod. The host's end goes with the test.
func connect(t testing.TB, name string) *bed {
	t.Helper()
	b := &bed{tb: t, host: nstest.Own(t), pod: nstest.New(t), name: name}
	b.host.Veth(name, b.pod, "eth0")
	t.Cleanup(func() { _, _ = b.host.TryIP("link del " + name) })
	b.end = index(t, name)
	return b
}

// index is the number of a link of this process's namespace.
func index(t testing.TB, name string) int {
	t.Helper()
	l, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Index
}

// leads asks the kernel whether a link leads into the pod.
func (b *bed) leads(end int) (bool, error) {
	return neighbor.LeadsInto(b.tb.Context(), end, b.pod.NS)
}

// observer makes one that goes with the test.
func observer(t testing.TB) *Observer {
	t.Helper()
	o, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// observed makes an observer count for the pod under an id.
func (b *bed) observe(o *Observer, id string) {
	b.tb.Helper()
	if err := o.Observe(id, ends(b.end), b.leads); err != nil {
		b.tb.Fatal(err)
	}
}

// send puts frames on the pod's link.
func (b *bed) send(frames ...[]byte) {
	b.tb.Helper()
	b.pod.Send("eth0", frames...)
}

// want checks what was counted. A frame that was sent over a veth has come to the
// other end's ingress within the system call, or in a moment.
func want(t testing.TB, o *Observer, id string, gateways, others uint64) {
	t.Helper()
	nstest.Eventually(t, fmt.Sprintf("%s: %d counted for gateways and %d for others", id, gateways, others), func() bool {
		g, n, _ := o.Observed(id)
		if g > gateways || n > others {
			t.Fatalf("%s: counted %d for gateways and %d for others, want %d and %d", id, g, n, gateways, others)
		}
		return g == gateways && n == others
	})
}

// ether is a frame with a payload of that type.
func ether(protocol uint16, payload []byte) []byte {
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 2, 0, 0, 0, 0, 1)
	return append(binary.BigEndian.AppendUint16(frame, protocol), payload...)
}

// arp is an ARP packet.
func arp(operation byte, sender, target netip.Addr) []byte {
	s, t := sender.As4(), target.As4()
	packet := append([]byte{0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 1}, s[:]...)
	return append(append(packet, 0, 0, 0, 0, 0, 0), t[:]...)
}

// nd is an IPv6 packet with a message of neighbor discovery. Its checksum is wrong,
// so that nobody answers.
func nd(kind byte, source, target netip.Addr) []byte {
	s, t := source.As16(), target.As16()
	packet := append([]byte{0x60, 0, 0, 0, 0, 24, unix.IPPROTO_ICMPV6, 255}, s[:]...)
	packet = append(packet, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
	return append(append(packet, kind, 0, 0, 0, 0, 0, 0, 0), t[:]...)
}

// programs are what is attached to a link's ingress by tcx.
func programs(t testing.TB, index int) []link.AttachedProgram {
	t.Helper()
	there, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		t.Fatal(err)
	}
	return there.Programs
}

// itself is this test's program as a process that observes a link.
func itself(t testing.TB, index int) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), observeEnv+"="+strconv.Itoa(index))
	return cmd
}
