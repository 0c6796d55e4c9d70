// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

const (
	routerMAC = "02:00:00:00:0a:01"
	spoofMAC  = "02:00:00:00:0b:01"
	otherMAC  = "02:00:00:00:00:99"
	gateway4  = "10.0.0.1"
	gateway6  = "fd00::1"
)

// stretch is an Ethernet segment: a bridge with stations, each of which has an
// eth0 on it.
type stretch struct {
	t      testing.TB
	bridge *nstest.NS
	count  int
}

func newStretch(t testing.TB) *stretch {
	s := &stretch{t: t, bridge: nstest.New(t)}
	s.bridge.IP("link add name br0 type bridge mcast_snooping 0", "link set br0 up")
	return s
}

func (s *stretch) station(setup ...string) *nstest.NS {
	s.t.Helper()
	ns := nstest.New(s.t)
	s.count++
	port := fmt.Sprintf("port%d", s.count)
	ns.Veth("eth0", s.bridge, port)
	s.bridge.IP("link set " + port + " master br0")
	nstest.Eventually(s.t, "the bridge to forward for "+port, func() bool {
		return strings.Contains(s.bridge.Output("-details", "link", "show", "dev", port), "state forwarding")
	})
	ns.IP(setup...)
	return ns
}

// router is a station with the gateway's addresses, and a kernel that answers.
func (s *stretch) router(mac string) *nstest.NS {
	return s.station("link set eth0 address "+mac, "addr add "+gateway4+"/24 dev eth0", "addr add "+gateway6+"/64 dev eth0 nodad")
}

func (s *stretch) pod() *nstest.NS {
	return s.station("addr add 10.0.0.2/24 dev eth0", "addr add fd00::2/64 dev eth0 nodad")
}

// asksOf are the questions for both families.
func asksOf(pod *nstest.NS) []neighbor.Ask {
	own := neighbor.HardwareAddr(pod.MAC("eth0"))
	return []neighbor.Ask{
		{Dst: netip.MustParseAddr(gateway4), Dev: "eth0", Src: netip.MustParseAddr("10.0.0.2"), LLAddr: own},
		{Dst: netip.MustParseAddr(gateway6), Dev: "eth0", Src: netip.MustParseAddr("fd00::2"), LLAddr: own},
	}
}

// tap is a socket that sees and sends anything on a station's link.
func tap(t testing.TB, ns *nstest.NS) *os.File {
	t.Helper()
	var file *os.File
	err := ns.Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		file = os.NewFile(uintptr(fd), "tap")
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: link.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// react answers questions about the gateway with frames of its own making: n
// counts the questions of each family from one.
func react(t testing.TB, ns *nstest.NS, frames func(n int, question []byte) [][]byte) {
	t.Helper()
	file := tap(t, ns)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		oneProcessor()
		seen := make(map[bool]int)
		for buf := make([]byte, 2000); ; {
			n, err := file.Read(buf)
			if err != nil {
				return
			}
			if q := buf[:n]; isQuestion(q) {
				seen[q[etherType] == 8]++
				for _, f := range frames(seen[q[etherType] == 8], q) {
					if _, err := file.Write(f); err != nil {
						return
					}
				}
			}
		}
	}()
	t.Cleanup(func() { _ = file.Close(); <-ended })
}

// oneProcessor keeps the calling goroutine on one, until it ends. Frames that are sent on
// two overtake each other where the machine is busy, by longer than anybody is
// listened to.
func oneProcessor() {
	runtime.LockOSThread() // and never unlocked, so that the thread ends, too
	var all, first unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return
	}
	for cpu := range 1024 {
		if all.IsSet(cpu) {
			first.Set(cpu)
			_ = unix.SchedSetaffinity(0, &first)
			return
		}
	}
}

func isQuestion(f []byte) bool {
	switch {
	case len(f) >= arpLen && binary.BigEndian.Uint16(f[etherType:]) == unix.ETH_P_ARP:
		return f[arpOperation+1] == arpRequest && netip.AddrFrom4([4]byte(f[arpTarget:])) == netip.MustParseAddr(gateway4)
	case len(f) >= ndOptions && binary.BigEndian.Uint16(f[etherType:]) == unix.ETH_P_IPV6:
		return f[icmp6] == icmp6Solicitation && netip.AddrFrom16([16]byte(f[ndTarget:])) == netip.MustParseAddr(gateway6)
	}
	return false
}

func macOf(s string) []byte {
	b, _ := net.ParseMAC(s)
	return b
}

// reply is the answer to an ARP request or to a solicitation that says the
// gateway is at mac.
func reply(question []byte, mac string) []byte {
	if question[etherType+1] == 0x06 {
		f := arpQuestion([6]byte(macOf(mac)), [4]byte(question[arpTarget:]), [4]byte(question[arpSender:]))
		copy(f, question[6:12])
		f[arpOperation+1] = arpReply
		copy(f[arpTargetLLAddr:], question[arpSenderLLAddr:arpSender])
		return f
	}
	f := advertisement(mac, ndSolicited|1<<5)
	copy(f, question[6:12])
	copy(f[ip6Dest:], question[ip6Source:ip6Dest])
	return summed(f)
}

// advertisement is a neighbor advertisement to all nodes.
func advertisement(mac string, flags byte) []byte {
	gw := netip.MustParseAddr(gateway6).As16()
	f := ndQuestion([6]byte(macOf(mac)), gw, gw)
	copy(f, "\x33\x33\x00\x00\x00\x01")
	all := netip.MustParseAddr("ff02::1").As16()
	copy(f[ip6Dest:], all[:])
	f[icmp6], f[ndFlags], f[ndOptions] = icmp6Advertisement, flags, ndTargetLLAddr
	return summed(f)
}

func summed(f []byte) []byte {
	f[icmp6Checksum], f[icmp6Checksum+1] = 0, 0
	binary.BigEndian.PutUint16(f[icmp6Checksum:], ^sum6(f))
	return f
}

// announcement is a gratuitous ARP packet.
func announcement(mac string, operation byte) []byte {
	gw := netip.MustParseAddr(gateway4).As4()
	f := arpQuestion([6]byte(macOf(mac)), gw, gw)
	f[arpOperation+1] = operation
	return f
}
