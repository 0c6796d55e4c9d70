// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

// records are messages of the real kernel for the fuzz targets to start from:
// everything that a namespace with all kinds of links and routes answers.
func records(tb testing.TB, r request) (bodies [][]byte) {
	tb.Helper()
	host, pod := pair(tb)
	pod.Veth("eth1", host, "lxc1")
	host.IP("link add name br0 type bridge", "link set lxc1 master br0", "link set br0 up")
	host.IP("link add link lxc0 name mv0 type macvlan")
	for _, ns := range []*nstest.NS{pod, host} {
		if ns == pod {
			for _, line := range nexthopObjects {
				pod.Output(fields(line)...)
			}
			pod.IP("route add 192.0.2.128/25 nexthop via 10.0.0.1 dev eth0 nexthop via inet6 fe80::1 dev eth1",
				"neigh add 10.0.0.1 lladdr "+hostMAC+" dev eth0 nud permanent protocol 177",
				"neigh add fd00::1 lladdr "+hostMAC+" dev eth0 nud stale")
		}
		t := openTable(tb, ns.NS)
		mark := len(bodies)
		err := t.conn.dump(tb.Context(), r, func() { bodies = bodies[:mark] }, func(_ uint16, body []byte) error {
			bodies = append(bodies, append([]byte(nil), body...))
			return nil
		})
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			tb.Fatal(err)
		}
	}
	if len(bodies) == 0 {
		tb.Fatal("the kernel answered nothing")
	}
	return bodies
}

// whole makes the request for everything of a kind, without any filter.
func whole(kind uint16, family uint8, size int) request {
	body := make([]byte, size)
	body[0] = family
	return request{kind: kind, body: body}
}

// A parser's word may be wrong about nonsense, but it must not read beyond its
// input, and must not give both an error and a result.
func FuzzParseRoute(f *testing.F) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for _, body := range records(f, whole(unix.RTM_GETROUTE, family, unix.SizeofRtMsg)) {
			f.Add(body)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseRoute(body)
		if err != nil {
			if !errors.Is(err, errMalformed) || r.hops != nil || r.usable {
				t.Fatalf("%+v, %v", r, err)
			}
			return
		}
		set := newFound(8)
		set.add(r)
		for k := range set.gateways.rank {
			if !k.dst.IsValid() || k.dst.IsUnspecified() || k.index <= 0 {
				t.Fatalf("gateway %+v of %+v", k, r)
			}
		}
	})
}

func FuzzParseNexthop(f *testing.F) {
	for _, body := range records(f, whole(unix.RTM_GETNEXTHOP, unix.AF_UNSPEC, sizeofNhmsg)) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := parseNexthop(body)
		if err != nil && (!errors.Is(err, errMalformed) || n.usable || n.group != nil) {
			t.Fatalf("%+v, %v", n, err)
		}
		if n.hop.index < 0 {
			t.Fatalf("%+v", n)
		}
	})
}

func FuzzParseLink(f *testing.F) {
	for _, body := range records(f, linksRequest()) {
		f.Add(body)
	}
	f.Add(vlanBridge(1))
	f.Fuzz(func(t *testing.T, body []byte) {
		l, err := parseLink(body)
		if err != nil {
			if !errors.Is(err, errMalformed) || l != (link{}) {
				t.Fatalf("%+v, %v", l, err)
			}
			return
		}
		if l.index <= 0 || l.master < 0 || l.other < 0 || !isPlainText(l.what()) {
			t.Fatalf("%+v", l)
		}
	})
}

func FuzzParseAddr(f *testing.F) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for _, body := range records(f, addrsRequest(family, 0, nsidNone)) {
			f.Add(body)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := parseAddr(body)
		if err != nil {
			if !errors.Is(err, errMalformed) || a != (ifaddr{}) {
				t.Fatalf("%+v, %v", a, err)
			}
			return
		}
		if a.index <= 0 || !a.ip.IsValid() || a.bits > a.ip.BitLen() {
			t.Fatalf("%+v", a)
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	for _, body := range records(f, whole(unix.RTM_GETNEIGH, unix.AF_UNSPEC, unix.SizeofNdMsg)) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := parseEntry(body)
		if err != nil {
			if !errors.Is(err, errMalformed) || e != (entry{}) {
				t.Fatalf("%+v, %v", e, err)
			}
			return
		}
		if len(stateNames(e.state)) == 0 || e.lladdr != "" && len(e.lladdr) != len(hostMAC) {
			t.Fatalf("%+v", e)
		}
	})
}

func FuzzParseBridgeVLANs(f *testing.F) {
	f.Add(bridgePort(3, vlanInfo{vid: 1, flags: vlanPVID | vlanUntagged}, vlanInfo{vid: 7}))
	f.Fuzz(func(t *testing.T, body []byte) {
		index, vlan, err := parseBridgeVLANs(body)
		if err != nil && (!errors.Is(err, errMalformed) || index != 0 || vlan != portVLAN{}) || err == nil && index <= 0 {
			t.Fatalf("%d, %+v, %v", index, vlan, err)
		}
	})
}

func FuzzParseNSID(f *testing.F) {
	f.Add(appendAttr32(make([]byte, sizeofRtgenmsgPad), nsidAttr, 4))
	f.Fuzz(func(t *testing.T, body []byte) {
		if id, err := parseNSID(body); err != nil && (!errors.Is(err, errMalformed) || id != nsidNone) {
			t.Fatalf("%d, %v", id, err)
		}
	})
}

// Whole datagrams, as requests and the watcher take them.
func FuzzDatagram(f *testing.F) {
	for _, kind := range []uint16{unix.RTM_NEWLINK, unix.RTM_DELNEIGH, unix.NLMSG_DONE, unix.NLMSG_ERROR} {
		f.Add(request{kind: kind, flags: unix.NLM_F_ACK_TLVS, body: make([]byte, 20)}.marshal(1))
	}
	status := append(make([]byte, 0, 64), 0xea, 0xff, 0xff, 0xff) // -EINVAL
	status = append(status, request{kind: unix.RTM_NEWNEIGH}.marshal(1)...)
	status = appendAttr(status, unix.NLMSGERR_ATTR_MSG, []byte("IPv6 is disabled\x1b\x00"))
	f.Add(request{kind: unix.NLMSG_ERROR, flags: unix.NLM_F_ACK_TLVS | unix.NLM_F_CAPPED, body: status}.marshal(1))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		_, _ = walkMessages(datagram, func(h header, body []byte) (bool, error) {
			if err := parseStatus(h, body); err != nil && !isPlainText(err.Error()) {
				t.Fatalf("%q", err)
			}
			return false, nil
		})
		w := Watcher{names: make(map[int]string)}
		for _, ev := range w.decode(nil, datagram) {
			if ev.Kind < LinkChanged || ev.Kind > Overrun {
				t.Fatalf("%+v", ev)
			}
		}
	})
}

func FuzzParseHardwareAddr(f *testing.F) {
	for _, s := range []string{hostMAC, "02:00:00:00:00:0G", "02-00-00-00-00-01", "0200.0000.0001", "", "ff:ff:ff:ff:ff:ff", "AA:BB:CC:DD:EE:FE"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseHardwareAddr(s)
		if err != nil {
			return
		}
		b, ok := a.bytes()
		if !ok || hardwareAddr(b[:]) != a || !a.IsUnicast() {
			t.Fatalf("%q gives %q", s, a)
		}
		if again, err := ParseHardwareAddr(a.String()); again != a || err != nil {
			t.Fatalf("%q gives %q, then %q, %v", s, a, again, err)
		}
	})
}

// What the kernel sends is refused when it is cut off anywhere but between two
// attributes.
func TestParsersRefuseHalfAMessage(t *testing.T) {
	for _, body := range records(t, linksRequest()) {
		between := map[int]bool{unix.SizeofIfInfomsg: true}
		for at := unix.SizeofIfInfomsg; at < len(body); {
			size := int(binary.NativeEndian.Uint16(body[at:]))
			for n := at + size; n <= at+align(size); n++ {
				between[n] = true // the padding may be left out
			}
			at += align(size)
		}
		for n := range body {
			if _, err := parseLink(body[:n]); (err == nil) != between[n] {
				t.Fatalf("link cut to %d of %d bytes: %v", n, len(body), err)
			}
		}
	}
}

func TestBridgeThatFiltersVLANs(t *testing.T) {
	for on, want := range map[byte]bool{0: false, 1: true} {
		l, err := parseLink(vlanBridge(on))
		if err != nil || l.kind != "bridge" || l.vlanFiltering != want {
			t.Errorf("filtering %d: %+v, %v", on, l, err)
		}
	}
	// The same attribute number means something else to another kind.
	body := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(body[4:], 5)
	info := appendAttr(nil, unix.IFLA_INFO_KIND, []byte("veth\x00"))
	info = appendAttr(info, unix.IFLA_INFO_DATA, appendAttr(nil, brVLANFiltering, []byte{1}))
	if l, err := parseLink(appendAttr(body, unix.IFLA_LINKINFO, info)); err != nil || l.vlanFiltering {
		t.Errorf("veth: %+v, %v", l, err)
	}
}

// The kernel that the tests run on has no CONFIG_BRIDGE_VLAN_FILTERING, so the
// messages are made here after net/bridge/br_netlink.c, br_fill_ifinfo.
func TestPortAndBridgeInOneVLAN(t *testing.T) {
	untagged := func(vid uint16) vlanInfo { return vlanInfo{vid: vid, flags: vlanPVID | vlanUntagged} }
	for _, c := range []struct {
		name         string
		port, bridge []vlanInfo
		want         bool
	}{
		{"the default", []vlanInfo{untagged(1)}, []vlanInfo{untagged(1)}, true},
		{"among others", []vlanInfo{{vid: 3}, untagged(20), {vid: 30, flags: vlanUntagged}}, []vlanInfo{{vid: 1}, untagged(20)}, true},
		{"different ones", []vlanInfo{untagged(20)}, []vlanInfo{untagged(1)}, false},
		{"the bridge takes it with a tag only", []vlanInfo{untagged(20)}, []vlanInfo{untagged(1), {vid: 20}}, false},
		{"answers leave with a tag", []vlanInfo{{vid: 1, flags: vlanPVID}}, []vlanInfo{untagged(1)}, false},
		{"the port takes none", []vlanInfo{{vid: 1}}, []vlanInfo{untagged(1)}, false},
		{"nothing is known", nil, nil, false},
	} {
		_, port, err := parseBridgeVLANs(bridgePort(3, c.port...))
		if err != nil {
			t.Fatal(err)
		}
		index, bridge, err := parseBridgeVLANs(bridgePort(4, c.bridge...))
		if err != nil || index != 4 {
			t.Fatal(index, err)
		}
		if got := meet(port, bridge); got != c.want {
			t.Errorf("%s: %v (port %+v, bridge %+v)", c.name, got, port, bridge)
		}
	}
}

// What surrounds the parser is real: the request, and whose number is whose.
func TestVLANsOfABridge(t *testing.T) {
	host, pod := bridged(t)
	host.IP("addr add 10.0.0.1/24 dev cni0")
	tb := openTable(t, pod.NS)
	l, err := tb.conn.link(t.Context(), linkIndex(t, tb, "eth0"), nsidNone)
	if err != nil {
		t.Fatal(err)
	}
	filtering := link{name: "cni0", vlanFiltering: true}
	v, err := tb.sameVLAN(t.Context(), link{name: "lxc0"}, filtering, l.nsid)
	if err != nil || v.reason != ReasonBridgeVLAN {
		t.Errorf("a bridge in a third namespace: %+v, %v", v, err)
	}
	// The kernel lists ports and bridges by this request, without VLANs here.
	hostTable := openTable(t, host.NS)
	port, bridge := linkIndex(t, hostTable, "lxc0"), linkIndex(t, hostTable, "cni0")
	a, b, err := hostTable.conn.bridgeVLANs(t.Context(), port, bridge)
	if err != nil || a != b {
		t.Errorf("%+v, %+v, %v", a, b, err)
	}
}

func TestNamespacesAreRecognisedByTheirNumber(t *testing.T) {
	first, second, pod, stranger := nstest.New(t), nstest.New(t), nstest.New(t), nstest.New(t)
	pod.Veth("eth0", first, "lxc0") // numbers are given with the first link
	pod.Veth("eth1", second, "lxc1")
	tb := openTable(t, pod.NS)
	for want, ns := range map[int32]*nstest.NS{0: first, 1: second, nsidNone: stranger} {
		if got, err := tb.nsidOf(t.Context(), ns.NS); got != want || err != nil {
			t.Errorf("number %d, %v, want %d", got, err, want)
		}
	}
}

func TestStateNamesAreThoseOfIP(t *testing.T) {
	for state, want := range map[uint16][]string{
		0: {"NONE"}, unix.NUD_PERMANENT: {"PERMANENT"}, unix.NUD_NOARP: {"NOARP"}, unix.NUD_PROBE: {"PROBE"},
		unix.NUD_STALE | unix.NUD_PERMANENT: {"STALE", "PERMANENT"}, 0x4000: {"0x4000"},
	} {
		if diff := cmp.Diff(want, stateNames(state)); diff != "" {
			t.Errorf("%#x (-want +got):\n%s", state, diff)
		}
	}
}

type vlanInfo struct{ flags, vid uint16 }

// bridgePort makes the body of a message about a port's VLANs.
func bridgePort(index uint32, vlans ...vlanInfo) []byte {
	body := make([]byte, unix.SizeofIfInfomsg)
	body[0] = unix.AF_BRIDGE
	binary.NativeEndian.PutUint32(body[4:], index)
	var spec []byte
	for _, v := range vlans {
		info := binary.NativeEndian.AppendUint16(nil, v.flags)
		spec = appendAttr(spec, bridgeVLANInfo, binary.NativeEndian.AppendUint16(info, v.vid))
	}
	return appendAttr(body, unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, spec)
}

// vlanBridge makes the body of a message about a bridge.
func vlanBridge(filtering byte) []byte {
	body := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(body[4:], 5)
	// The data may come before the kind that says how to read it.
	info := appendAttr(nil, unix.IFLA_INFO_DATA, appendAttr(nil, brVLANFiltering, []byte{filtering}))
	info = appendAttr(info, unix.IFLA_INFO_KIND, []byte("bridge\x00"))
	return appendAttr(body, unix.IFLA_LINKINFO, info)
}
