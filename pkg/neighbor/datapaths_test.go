// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

// Links that the kernel of the tests has none of, as a pod's own link or as what
// its other end belongs to: the messages are made, and read by the real parser.
func TestLinksOfEveryKind(t *testing.T) {
	const eth, peer, master = 5, 9, 12
	pod := func(kind string) message {
		return message{index: eth, name: "eth0", kind: kind, mac: "02:00:00:00:00:50", other: peer, elsewhere: true}
	}
	end := func(kind string, above int) message {
		return message{index: peer, name: "lxc0", kind: kind, mac: hostMAC, master: above, other: eth, elsewhere: true}
	}
	of := func(kind string) []message {
		return []message{pod("veth"), end("veth", master), {index: master, name: "m0", kind: kind, mac: otherMAC}}
	}
	with := func(m message, change func(*message)) message { change(&m); return m }
	zero := func(m *message) { m.mac = "00:00:00:00:00:00" }
	alone := func(m *message) { m.other, m.elsewhere = 0, false }
	for _, c := range []struct {
		name  string
		links []message // the pod's own first
		want  string
	}{
		{"veth", []message{pod("veth"), end("veth", 0)}, hostMAC + " peer"},
		{"netkit, layer 2", []message{pod("netkit"), end("netkit", 0)}, hostMAC + " peer"},
		{"netkit, layer 3", []message{with(with(pod("netkit"), zero), func(m *message) { m.flags = unix.IFF_NOARP }), end("netkit", 0)}, "NoARP"},
		{"no address of its own", []message{with(pod("veth"), zero), end("veth", 0)}, "ZeroMAC"},
		{"the other end has no address", []message{pod("veth"), with(end("veth", 0), zero)}, "ZeroMAC"},
		{"the other end's address is a group's", []message{pod("veth"), with(end("veth", 0), func(m *message) { m.mac = "33:33:00:00:00:01" })}, "ZeroMAC"},
		{"an address longer than Ethernet's", []message{with(pod("ipoib"), func(m *message) { m.mac = "" })}, "UnsupportedLink"},
		{"a VLAN upon a link of the host", []message{pod("vlan"), with(end("", 0), alone)}, "UnsupportedLink"},
		{"a VLAN upon a link of the pod", []message{with(pod("vlan"), func(m *message) { m.elsewhere = false })}, "UnsupportedLink"},
		{"a bond of the pod's own", []message{with(pod("bond"), alone)}, "UnsupportedLink"},
		{"a bridge of the pod's own, as KubeVirt's", []message{with(pod("bridge"), alone)}, "UnsupportedLink"},
		{"a VRF", []message{with(pod("vrf"), func(m *message) { alone(m); m.flags = unix.IFF_NOARP })}, "NoARP"},
		{"macvlan", []message{pod("macvlan"), with(end("", 0), alone)}, "UnsupportedLink"},
		{"ipvlan, layer 2", []message{pod("ipvlan"), with(end("", 0), alone)}, "UnsupportedLink"},
		{"hardware, as SR-IOV's", []message{with(pod(""), alone)}, "UnsupportedLink"},
		{"a dummy", []message{with(pod("dummy"), func(m *message) { alone(m); m.flags = unix.IFF_NOARP })}, "NoARP"},
		{"a tunnel", []message{with(pod("vxlan"), alone)}, "UnsupportedLink"},
		{"a port of Open vSwitch", of("openvswitch"), "UnsupportedMaster"},
		{"a port of a bond", of("bond"), "UnsupportedMaster"},
		{"a port of a team", of("team"), "UnsupportedMaster"},
		{"a port of something new", of("quux"), "UnsupportedMaster"},
		{"a port of hardware", of(""), "UnsupportedMaster"},
		{"in a VRF", of("vrf"), hostMAC + " peer"},
		{"a port of a bridge without the gateway", of("bridge"), "RouterBeyondBridge"},
		{"netkit whose other end is veth", []message{pod("netkit"), end("veth", 0)}, "PeerGone"},
		{"a port of a master that is gone", of("bridge")[:2], "PeerGone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, host := record(t, c.links[0])[eth], recorded{links: record(t, c.links[1:]...)}
			v := unfit(key{Dst: mustAddr("10.0.0.1"), Index: eth}, l)
			if v.known() {
				s := survey{links: host}
				o, err := s.outlook(t.Context(), l)
				if err != nil {
					t.Fatal(err)
				}
				if v, err = s.judge(t.Context(), o, mustAddr("10.0.0.1")); err != nil {
					t.Fatal(err)
				}
			}
			got := string(v.reason)
			if v.known() {
				got = string(v.lladdr) + " " + string(v.source)
			}
			if got != c.want || !isPlainText(v.message) {
				t.Errorf("%s, want %s (%s)", got, c.want, v.message)
			}
		})
	}
}

// A link that resolves nothing is left alone, and what it carries goes on
// (netkit's layer 3 looks the same: IFF_NOARP, one address on both sides).
func TestTrafficOfALinkThatResolvesNothing(t *testing.T) {
	host, pod := nstest.Pair(t)
	host.IP("link set lxc0 down", "link set lxc0 address "+pod.MAC("eth0"), "link set lxc0 arp off up",
		"addr add 10.0.0.1/24 dev lxc0")
	pod.IP("link set eth0 arp off", "addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1")
	tb := openTable(t, pod.NS)
	res := resolve(t, tb)
	expect(t, res, "10.0.0.1 eth0 - NoARP")
	if len(res.Unknown) > 0 || res.Skipped[0].Reason.NoTruth() {
		t.Errorf("%+v", res)
	}
	pin(t, tb, res.Neighbors)
	reach(t, pod, "10.0.0.1")
}

// The default route comes from a router advertisement: a real one, sent by the
// host's end. The gateway is the router's link-local address, and the kernel has
// an entry for it from the very message, with its link-layer address if it has one.
func TestDefaultRouteFromARouterAdvertisement(t *testing.T) {
	for name, lladdr := range map[string]string{"that names another link-layer address": otherMAC, "that names none": ""} {
		t.Run(name, func(t *testing.T) {
			host, pod := nstest.Pair(t)
			pod.Sysctl("net/ipv6/conf/eth0/accept_ra", "2")
			pod.IP("addr add fd00::2/64 dev eth0 nodad")
			host.IP("addr flush dev lxc0", "addr add fe80::aa/64 dev lxc0 nodad")
			nstest.Eventually(t, "IPv6 on the link", func() bool {
				return strings.Contains(pod.Output("-6", "addr", "show", "dev", "eth0", "scope", "link", "-tentative"), "fe80::")
			})
			advertise(t, host, "lxc0", lladdr)
			nstest.Eventually(t, "the default route", func() bool {
				return strings.Contains(pod.Output("-6", "route", "show", "default"), "proto ra")
			})
			if got := pod.Output("neigh", "show", "fe80::aa", "nud", "all"); !strings.Contains(got, "fe80::aa") || !strings.Contains(got, lladdr) {
				t.Errorf("the advertisement made the entry %q", got)
			}
			tb := openTable(t, pod.NS)
			res := resolve(t, tb)
			if len(res.Neighbors) != 1 {
				t.Fatalf("%+v", res)
			}
			expect(t, res, "fe80::aa eth0 "+hostMAC+" inet6 peer "+strings.Join(res.Neighbors[0].State, ","))
			pin(t, tb, res.Neighbors)
			expectPinned := func() {
				t.Helper()
				if got := pod.Output("neigh", "show", "fe80::aa"); !strings.Contains(got, hostMAC) || !strings.Contains(got, "PERMANENT") {
					t.Errorf("entry %q", got)
				}
			}
			expectPinned()
			advertise(t, host, "lxc0", otherMAC) // and again, which changes nothing
			expectPinned()
			expect(t, resolve(t, tb, res.Neighbors...), "fe80::aa eth0 "+hostMAC+" inet6 peer PERMANENT")
		})
	}
}

// advertise sends a router advertisement to all nodes (RFC 4861, section 4.2):
// hop limit 64, no flags, a lifetime of half an hour, and the source link-layer
// address option unless that is empty.
func advertise(t *testing.T, ns *nstest.NS, dev, lladdr string) {
	t.Helper()
	packet := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}
	if mac, ok := HardwareAddr(lladdr).bytes(); ok {
		packet = append(append(packet, 1, 1), mac[:]...)
	}
	index := linkIndex(t, openTable(t, ns.NS), dev)
	err := ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
			return err
		}
		to := &unix.SockaddrInet6{ZoneId: uint32(index), Addr: mustAddr("ff02::1").As16()}
		return unix.Sendto(fd, packet, 0, to)
	})
	if err != nil {
		t.Fatal(err)
	}
}
