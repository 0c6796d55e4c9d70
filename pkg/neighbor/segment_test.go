// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// besides makes a veth pair on the host whose near end is a port of the bridge
// and whose far end may hold the gateway, as the bridge plugin of CNI does for
// its option vlan (plugins/main/bridge/bridge.go, ensureVlanInterface).
func besides(host *nstest.NS, name, mac string) {
	host.Veth(name, host, name+"p")
	host.IP("link set "+name+" address "+mac, "link set "+name+"p master cni0")
}

func TestVethBesideTheBridgeHoldsTheGateway(t *testing.T) {
	host, pod := bridged(t)
	besides(host, "gw0", otherMAC)
	host.IP("addr add 10.0.0.1/24 dev gw0", "addr add fd00::1/64 dev gw0 nodad")
	tb := tableFor(t, pod, host)
	res := resolve(t, tb)
	const host4, host6 = "10.0.0.1 eth0 " + otherMAC + " inet host NONE", "fd00::1 eth0 " + otherMAC + " inet6 host NONE"
	expect(t, res, host4, host6)
	pin(t, tb, res.Neighbors)
	reach(t, pod, "10.0.0.1")
	reach(t, pod, "fd00::1")

	for _, c := range []struct {
		name string
		do   []string
		undo []string
		want []string
	}{
		{"the bridge itself holds it too", []string{"addr add 10.0.0.1/24 dev cni0"}, []string{"addr del 10.0.0.1/24 dev cni0"},
			[]string{gw4 + "port PERMANENT", "fd00::1 eth0 " + otherMAC + " inet6 host PERMANENT"}},
		{"a link of the host's that is not on the segment holds it too", []string{"addr add 10.0.0.1/32 dev lo"}, []string{"addr del 10.0.0.1/32 dev lo"},
			[]string{"10.0.0.1 eth0 " + otherMAC + " inet host PERMANENT", "fd00::1 eth0 " + otherMAC + " inet6 host PERMANENT"}},
		{"its near end is no port any more", []string{"link set gw0p nomaster"}, []string{"link set gw0p master cni0"},
			[]string{"10.0.0.1 eth0 - RouterBeyondBridge", "fd00::1 eth0 - RouterBeyondBridge"}},
		{"its near end is a port of another bridge", []string{"link add name br9 type bridge", "link set gw0p master br9"},
			[]string{"link set gw0p master cni0", "link del br9"},
			[]string{"10.0.0.1 eth0 - RouterBeyondBridge", "fd00::1 eth0 - RouterBeyondBridge"}},
		{"it is itself a port of another bridge", []string{"link add name br9 type bridge", "link set gw0 master br9"}, []string{"link del br9"},
			[]string{"10.0.0.1 eth0 - RouterBeyondBridge", "fd00::1 eth0 - RouterBeyondBridge"}},
		{"it has lost the address", []string{"addr del 10.0.0.1/24 dev gw0"}, nil,
			[]string{"10.0.0.1 eth0 - RouterBeyondBridge", "fd00::1 eth0 " + otherMAC + " inet6 host PERMANENT"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			host.IP(c.do...)
			expect(t, look(t, tb, Query{Known: res.Neighbors}), c.want...)
			host.IP(c.undo...)
		})
	}
}

func TestTwoBesideTheBridgeHoldTheGateway(t *testing.T) {
	host, pod := bridged(t)
	besides(host, "gw0", otherMAC)
	besides(host, "gw1", hostMAC2)
	host.IP("addr add 10.0.0.1/24 dev gw0", "addr add 10.0.0.1/24 dev gw1", "addr add fd00::1/64 dev gw1 nodad")
	expect(t, resolve(t, tableFor(t, pod, host)), "10.0.0.1 eth0 - RouterBeyondBridge", "fd00::1 eth0 "+hostMAC2+" inet6 host NONE")
}

// An address that turned out to be somebody else's is not in use.
func TestVethBesideTheBridgeWhoseAddressIsTaken(t *testing.T) {
	host, pod := bridged(t)
	besides(host, "gw0", otherMAC)
	router := nstest.New(t)
	router.Veth("eth0", host, "up0")
	router.IP("addr add fd00::1/64 dev eth0 nodad")
	host.IP("link set up0 master cni0")
	host.Sysctl("net/ipv6/conf/gw0/accept_dad", "1")
	host.IP("addr add fd00::1/64 dev gw0")
	nstest.Eventually(t, "the link to find its address taken", func() bool {
		return host.Output("addr", "show", "dev", "gw0", "dadfailed") != ""
	})
	expect(t, resolve(t, tableFor(t, pod, host)), "10.0.0.1 eth0 - RouterBeyondBridge", "fd00::1 eth0 - RouterBeyondBridge")
}

// Another pod on the bridge gives itself the gateway's address. Its veth pair
// looks the same but for the namespace that its far end is in.
func TestPodThatHoldsTheGatewayIsNoTruth(t *testing.T) {
	host, pod := bridged(t)
	spoofer := nstest.New(t)
	spoofer.Veth("eth0", host, "lxc9")
	host.IP("link set lxc9 master cni0")
	spoofer.IP("addr add 10.0.0.1/24 dev eth0", "addr add fd00::1/64 dev eth0 nodad")
	tb := tableFor(t, pod, host)
	expect(t, resolve(t, tb), "10.0.0.1 eth0 - RouterBeyondBridge", "fd00::1 eth0 - RouterBeyondBridge")
	besides(host, "gw0", otherMAC)
	host.IP("addr add 10.0.0.1/24 dev gw0")
	expect(t, resolve(t, tb), "10.0.0.1 eth0 "+otherMAC+" inet host NONE", "fd00::1 eth0 - RouterBeyondBridge")
}

// recorded stands in for the kernel of a host with links that the kernel of the
// tests has none of. What it answers has gone through the real parsers.
type recorded struct {
	links map[int]rtnetlink.Link
	addrs map[int]string // of link, each of one
}

func (r recorded) Link(_ context.Context, index int, _ int32) (rtnetlink.Link, error) {
	if l, ok := r.links[index]; ok {
		return l, nil
	}
	return rtnetlink.Link{}, unix.ENODEV
}

func (r recorded) Holders(_ context.Context, index int, _ int32, ip netip.Addr) (indices []int, err error) {
	for at, addr := range r.addrs {
		if addr == ip.String() && (index == anyLink || index == at) {
			indices = append(indices, at)
		}
	}
	slices.Sort(indices)
	return indices, nil
}

// message is what the kernel would say about a link.
type message struct {
	index         int
	name, kind    string
	mac           string
	master, other int
	elsewhere     bool // other is in another namespace
	flags         uint32
	data          func(*nl.RtAttr)
}

func (m message) body() []byte {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(m.index)
	msg.Flags = unix.IFF_UP | m.flags
	body := append(msg.Serialize(), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(m.name)).Serialize()...)
	if mac, ok := HardwareAddr(m.mac).bytes(); ok {
		body = append(body, nl.NewRtAttr(unix.IFLA_ADDRESS, mac[:]).Serialize()...)
	}
	for kind, value := range map[int]int{unix.IFLA_MASTER: m.master, unix.IFLA_LINK: m.other} {
		if value != 0 {
			body = append(body, nl.NewRtAttr(kind, nl.Uint32Attr(uint32(value))).Serialize()...)
		}
	}
	if m.elsewhere {
		body = append(body, nl.NewRtAttr(unix.IFLA_LINK_NETNSID, nl.Uint32Attr(3)).Serialize()...)
	}
	if m.kind != "" {
		info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(nl.IFLA_INFO_KIND, nl.ZeroTerminated(m.kind))
		if data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil); m.data != nil {
			m.data(data)
		}
		body = append(body, info.Serialize()...)
	}
	return body
}

func record(t testing.TB, list ...message) map[int]rtnetlink.Link {
	t.Helper()
	links := make(map[int]rtnetlink.Link)
	for _, m := range list {
		l, err := rtnetlink.ParseLink(m.body())
		if err != nil || l.Index != m.index || l.Name != m.name || l.Kind != m.kind || l.Master != m.master || l.Other != m.other {
			t.Fatalf("%+v was read as %+v, %v", m, l, err)
		}
		links[l.Index] = l
	}
	return links
}

func filters(protocol ...byte) func(*nl.RtAttr) {
	return func(data *nl.RtAttr) {
		data.AddRtAttr(nl.IFLA_BR_VLAN_FILTERING, []byte{1})
		data.AddRtAttr(nl.IFLA_BR_VLAN_PROTOCOL, protocol)
	}
}

func tag(id uint16, protocol ...byte) func(*nl.RtAttr) {
	return func(data *nl.RtAttr) {
		data.AddRtAttr(nl.IFLA_VLAN_ID, nl.Uint16Attr(id))
		data.AddRtAttr(nl.IFLA_VLAN_PROTOCOL, protocol)
	}
}

// The kernel that the tests run on has neither VLAN links nor a bridge that
// filters (CONFIG_VLAN_8021Q, CONFIG_BRIDGE_VLAN_FILTERING). Link 1 is the bridge,
// 2 the pod's port; 20 and 30 are VLAN links upon the bridge, 41 and 51 the far
// ends of veth ports 42 and 52.
func TestGatewayOnTheVLANsOfABridge(t *testing.T) {
	const gateway = "10.0.0.1"
	const bridgeMAC, mac20, mac30, mac41, mac51 = "02:00:00:00:01:01", "02:00:00:00:01:20", "02:00:00:00:01:30", "02:00:00:00:01:41", "02:00:00:00:01:51"
	dot1q, dot1ad := []byte{0x81, 0x00}, []byte{0x88, 0xa8}
	base := []message{
		{index: 1, name: "cni0", kind: "bridge", mac: bridgeMAC, data: filters(dot1q...)},
		{index: 2, name: "lxc0", kind: "veth", mac: hostMAC, master: 1, other: 9, elsewhere: true},
		{index: 20, name: "cni0.20", kind: "vlan", mac: mac20, other: 1, data: tag(20, dot1q...)},
		{index: 30, name: "cni0.30", kind: "vlan", mac: mac30, other: 1, data: tag(30, dot1q...)},
		{index: 41, name: "vlan20", kind: "veth", mac: mac41, other: 42}, {index: 42, name: "vlan20p", kind: "veth", mac: mac41, master: 1, other: 41},
		{index: 51, name: "vlan30", kind: "veth", mac: mac51, other: 52}, {index: 52, name: "vlan30p", kind: "veth", mac: mac51, master: 1, other: 51},
	}
	const pvid, untag = nl.BRIDGE_VLAN_INFO_PVID, nl.BRIDGE_VLAN_INFO_UNTAGGED
	untagged := func(vid uint16) []*nl.BridgeVlanInfo { return []*nl.BridgeVlanInfo{{Vid: vid, Flags: pvid | untag}} }
	tagged := func(vids ...uint16) []*nl.BridgeVlanInfo {
		list := untagged(1)
		for _, vid := range vids {
			list = append(list, &nl.BridgeVlanInfo{Vid: vid})
		}
		return list
	}
	usual := rtnetlink.VLANs{1: tagged(20, 30), 2: untagged(20), 42: untagged(20), 52: untagged(30)}
	with := func(index int32, list []*nl.BridgeVlanInfo) rtnetlink.VLANs {
		m := rtnetlink.VLANs{}
		for i, l := range usual {
			m[i] = l
		}
		m[index] = list
		return m
	}
	for _, c := range []struct {
		name    string
		vlans   rtnetlink.VLANs
		change  []message
		holders []int
		want    string // address and source, or reason
	}{
		{"on the VLAN link of the port's VLAN", usual, nil, []int{20}, mac20 + " host"},
		{"on the VLAN link of another", usual, nil, []int{30}, "BridgeVLAN"},
		{"on those of two VLANs, each with its own", usual, nil, []int{20, 30}, mac20 + " host"},
		{"the port is on the other of them", with(2, untagged(30)), nil, []int{20, 30}, mac30 + " host"},
		{"on a veth port of the port's VLAN", usual, nil, []int{41}, mac41 + " host"},
		{"on a veth port of another", usual, nil, []int{51}, "BridgeVLAN"},
		{"on veth ports of two VLANs", usual, nil, []int{41, 51}, mac41 + " host"},
		{"twice on the port's VLAN", usual, nil, []int{20, 41}, "RouterBeyondBridge"},
		{"on the bridge, which has it in another VLAN", usual, nil, []int{1}, "BridgeVLAN"},
		{"on the bridge in another VLAN, and beside it in the port's", usual, nil, []int{1, 20, 51}, mac20 + " host"},
		{"on the bridge in the port's VLAN, and beside it in another", with(2, untagged(1)), nil, []int{1, 20}, hostMAC + " port"},
		{"nobody has it", usual, nil, nil, "BridgeVLAN"},
		{"nobody has it, the bridge being in the port's VLAN", with(2, untagged(1)), nil, nil, "RouterBeyondBridge"},
		{"the bridge is no member of the VLAN", with(1, untagged(1)), nil, []int{20}, "BridgeVLAN"},
		{"the bridge takes the tag off before the VLAN link", with(1, untagged(20)), nil, []int{20}, "RouterBeyondBridge"},
		{"answers reach the pod with a tag", with(2, []*nl.BridgeVlanInfo{{Vid: 20, Flags: pvid}}), nil, []int{20, 41}, "BridgeVLAN"},
		{"the port takes no frame without a tag", with(2, []*nl.BridgeVlanInfo{{Vid: 20}}), nil, []int{20, 41}, "BridgeVLAN"},
		{"the veth port gets it with a tag", with(42, tagged(20)), nil, []int{41}, "BridgeVLAN"},
		{"the bridge does not filter: no tag", nil, nil, []int{20}, "RouterBeyondBridge"},
		{"the bridge does not filter: one segment", nil, nil, []int{41}, mac41 + " host"},
		{"the bridge does not filter: two on it", nil, nil, []int{41, 51}, "RouterBeyondBridge"},
		{"the VLAN link has another kind of tag", usual,
			[]message{{index: 20, name: "cni0.20", kind: "vlan", mac: mac20, other: 1, data: tag(20, dot1ad...)}}, []int{20}, "BridgeVLAN"},
		{"both have that kind of tag", usual, []message{
			{index: 20, name: "cni0.20", kind: "vlan", mac: mac20, other: 1, data: tag(20, dot1ad...)},
			{index: 1, name: "cni0", kind: "bridge", mac: bridgeMAC, data: filters(dot1ad...)}}, []int{20}, mac20 + " host"},
		{"the VLAN link is upon another", usual,
			[]message{{index: 20, name: "eno1.20", kind: "vlan", mac: mac20, other: 7, data: tag(20, dot1q...)}}, []int{20}, "BridgeVLAN"},
		{"the VLAN link is upon one of that number elsewhere", usual,
			[]message{{index: 20, name: "x.20", kind: "vlan", mac: mac20, other: 1, elsewhere: true, data: tag(20, dot1q...)}}, []int{20}, "BridgeVLAN"},
		{"the VLAN link is a port of another bridge", usual, []message{
			{index: 20, name: "cni0.20", kind: "vlan", mac: mac20, other: 1, master: 7, data: tag(20, dot1q...)},
			{index: 7, name: "br7", kind: "bridge", mac: otherMAC}}, []int{20}, "BridgeVLAN"},
		{"the VLAN link belongs to a VRF", usual, []message{
			{index: 20, name: "cni0.20", kind: "vlan", mac: mac20, other: 1, master: 7, data: tag(20, dot1q...)},
			{index: 7, name: "red", kind: "vrf", mac: otherMAC}}, []int{20}, mac20 + " host"},
		{"two links have one address", usual,
			[]message{{index: 41, name: "vlan20", kind: "veth", mac: mac20, other: 42}}, []int{20, 41}, mac20 + " host"},
		{"the veth's far end is in a pod", usual,
			[]message{{index: 41, name: "vlan20", kind: "veth", mac: mac41, other: 42, elsewhere: true}}, []int{41}, "BridgeVLAN"},
		{"the veth's near end does not lead back", usual,
			[]message{{index: 42, name: "vlan20p", kind: "veth", mac: mac41, master: 1, other: 77}}, []int{41}, "BridgeVLAN"},
		{"it is gone meanwhile", usual, nil, []int{99}, "BridgeVLAN"},
		{"it is no VLAN link and no veth", usual, []message{{index: 60, name: "mac0", kind: "macvlan", mac: otherMAC, other: 1}}, []int{60}, "BridgeVLAN"},
		{"its address is no station's", usual,
			[]message{{index: 20, name: "cni0.20", kind: "vlan", mac: "00:00:00:00:00:00", other: 1, data: tag(20, dot1q...)}}, []int{20}, "BridgeVLAN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := recorded{links: record(t, append(slices.Clone(base), c.change...)...), addrs: map[int]string{20: "192.0.2.1", 30: "10.0.0.11"}}
			for _, index := range c.holders {
				host.addrs[index] = gateway
			}
			s := survey{links: host}
			v, err := s.judgeSegment(t.Context(), segment{port: host.links[2], bridge: host.links[1], vlans: c.vlans}, mustAddr(gateway))
			got := string(v.reason)
			if v.known() {
				got = string(v.lladdr) + " " + string(v.source)
			}
			if got != c.want || err != nil || !isPlainText(v.message) {
				t.Errorf("%s, want %s (%s, %v)", got, c.want, v.message, err)
			}
		})
	}
}
