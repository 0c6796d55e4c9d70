// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

// records are messages of the real kernel for the fuzz targets to start from:
// everything that a namespace with all kinds of links and routes answers.
func records(tb testing.TB, r *request) (bodies [][]byte) {
	tb.Helper()
	host, pod := pair(tb)
	pod.Veth("eth1", host, "lxc1")
	host.IP("link add name br0 type bridge", "link set lxc1 master br0", "link set br0 up")
	host.IP("link add link lxc0 name mv0 type macvlan mode source", "link set mv0 type macvlan macaddr add "+hostMAC2)
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
		err := t.conn.dump(tb.Context(), r, func() { bodies = bodies[:mark] }, func(body []byte) error {
			bodies = append(bodies, bytes.Clone(body))
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
func whole(kind int, family uint8, size int) *request { return newRequest(kind, 0, family, size) }

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
		for _, m := range set.gateways.members {
			k := m.key
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
		set := newFound(8)
		if set.addHop(n.hop, 0) && n.hop.index <= 0 {
			t.Fatalf("%+v", n)
		}
	})
}

func FuzzParseLink(f *testing.F) {
	for _, body := range records(f, linksRequest(nsidNone)) {
		f.Add(body)
	}
	f.Add(vlanLink("bridge", 1))
	f.Add(message{index: 20, name: "cni0.20", kind: "vlan", mac: hostMAC, other: 1, data: tag(20, 0x81, 0x00)}.body())
	f.Add(message{index: 1, name: "cni0", kind: "bridge", data: filters(0x88, 0xa8)}.body())
	f.Fuzz(func(t *testing.T, body []byte) {
		l, err := parseLink(body)
		if err != nil {
			if !errors.Is(err, errMalformed) || l != (link{}) {
				t.Fatalf("%+v, %v", l, err)
			}
			return
		}
		if l.index <= 0 || !isPlainText(l.what()) {
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
		if a.index <= 0 || !a.ip.IsValid() {
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

func FuzzParseNSID(f *testing.F) {
	f.Add(append(make([]byte, 4), serialized32(netlink.NETNSA_NSID, 4)...))
	f.Fuzz(func(t *testing.T, body []byte) {
		if id, err := parseNSID(body); err != nil && (!errors.Is(err, errMalformed) || id != 0) {
			t.Fatalf("%d, %v", id, err)
		}
	})
}

// Whole messages, as the watcher takes them.
func FuzzEvent(f *testing.F) {
	for _, body := range records(f, linksRequest(nsidNone)) {
		f.Add(uint16(unix.RTM_NEWLINK), body)
	}
	for _, kind := range []uint16{unix.RTM_DELNEIGH, unix.RTM_NEWADDR, unix.RTM_NEWROUTE, unix.NLMSG_DONE} {
		f.Add(kind, make([]byte, 20))
	}
	f.Fuzz(func(t *testing.T, kind uint16, body []byte) {
		w := Watcher{names: make(map[int]string)}
		n := notice{kind: kind, body: body}
		if ev, ok := w.decode(n); ok && (ev.Kind < LinkChanged || ev.Kind > Overrun) {
			t.Fatalf("%+v", ev)
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

// A message that is cut off is refused, or read as one with fewer attributes.
func TestParsersRefuseHalfAMessage(t *testing.T) {
	for _, body := range records(t, linksRequest(nsidNone)) {
		whole, err := parseLink(body)
		if err != nil {
			t.Fatal(err)
		}
		for n := range body {
			l, err := parseLink(slices.Clip(body[:n]))
			if err != nil && (!errors.Is(err, errMalformed) || l != (link{})) || err == nil && (l.index != whole.index || l.name != "" && l.name != whole.name) {
				t.Fatalf("link cut to %d of %d bytes: %+v, %v", n, len(body), l, err)
			}
		}
	}
}

func TestWrongLengthsAreRefused(t *testing.T) {
	attr := func(length uint16, value ...byte) []byte {
		b := binary.NativeEndian.AppendUint16(nil, length)
		return append(binary.NativeEndian.AppendUint16(b, netlink.NDA_PROTOCOL), value...)
	}
	for name, c := range map[string]struct {
		attr []byte
		want uint8
		err  error
	}{
		"longer than the message":       {attr(9, Protocol), 0, errMalformed},
		"shorter than its own header":   {attr(3, Protocol), 0, errMalformed},
		"without a value":               {attr(4), 0, errMalformed},
		"without the padding after it":  {attr(5, Protocol), Protocol, nil},
		"with less than a header after": {append(attr(5, Protocol, 0, 0, 0), 1, 2, 3), Protocol, nil},
	} {
		e, err := parseEntry(append(make([]byte, unix.SizeofNdMsg), c.attr...))
		if e.protocol != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
}

// A number is absent, or the kernel says that there is none.
func TestLinkToANamespaceWithoutANumber(t *testing.T) {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = 5
	for _, c := range []struct {
		body []byte
		want bool
	}{{msg.Serialize(), false}, {append(msg.Serialize(), serialized32(unix.IFLA_LINK_NETNSID, 1<<32-1)...), true}} {
		if l, err := parseLink(c.body); err != nil || l.hasNSID != c.want || l.nsid != nsidNone {
			t.Errorf("%+v, %v", l, err)
		}
	}
}

func TestBridgeThatFiltersVLANs(t *testing.T) {
	for on, want := range map[byte]bool{0: false, 1: true} {
		l, err := parseLink(vlanLink("bridge", on))
		if err != nil || l.kind != "bridge" || l.vlanFiltering != want {
			t.Errorf("filtering %d: %+v, %v", on, l, err)
		}
	}
	// The same attribute number means something else to another kind.
	if l, err := parseLink(vlanLink("veth", 1)); err != nil || l.vlanFiltering {
		t.Errorf("veth: %+v, %v", l, err)
	}
}

// The kernel that the tests run on has no CONFIG_BRIDGE_VLAN_FILTERING, so what
// the library reads from its messages is made here.
func TestPortAndBridgeInOneVLAN(t *testing.T) {
	const pvid, untag = nl.BRIDGE_VLAN_INFO_PVID, nl.BRIDGE_VLAN_INFO_UNTAGGED
	type members = []*nl.BridgeVlanInfo
	untagged := func(vid uint16) *nl.BridgeVlanInfo { return &nl.BridgeVlanInfo{Vid: vid, Flags: pvid | untag} }
	for _, c := range []struct {
		name         string
		port, bridge members
		want         bool
	}{
		{"the default", members{untagged(1)}, members{untagged(1)}, true},
		{"among others", members{{Vid: 3}, untagged(20), {Vid: 30, Flags: untag}}, members{{Vid: 1}, untagged(20)}, true},
		{"different ones", members{untagged(20)}, members{untagged(1)}, false},
		{"the bridge takes it with a tag only", members{untagged(20)}, members{untagged(1), {Vid: 20}}, false},
		{"answers leave with a tag", members{{Vid: 1, Flags: pvid}}, members{untagged(1)}, false},
		{"the port takes none", members{{Vid: 1}}, members{untagged(1)}, false},
		{"nothing is known", nil, nil, false},
	} {
		list := vlans{2: c.port, 1: c.bridge}
		port, bridge := list.untagged(2), list.untagged(1)
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
	filtering := link{name: "cni0", kind: kindBridge, vlanFiltering: true}
	look := tb.newSurvey()
	if seg, v, err := look.openSegment(t.Context(), link{name: "lxc0"}, filtering, l.nsid); err != nil || seg != nil || v.reason != ReasonBridgeVLAN {
		t.Errorf("a bridge in a third namespace: %+v, %+v, %v", seg, v, err)
	}
	tb.host = host.NS
	look = tb.newSurvey()
	if seg, v, err := look.openSegment(t.Context(), link{name: "lxc0"}, filtering, l.nsid); err != nil || seg == nil || seg.vlans == nil || !v.known() {
		t.Errorf("a bridge of the host's: %+v, %+v, %v", seg, v, err)
	}
	// The kernel lists ports and bridges by this request, without VLANs here.
	hostTable := openTable(t, host.NS)
	port, bridge := linkIndex(t, hostTable, "lxc0"), linkIndex(t, hostTable, "cni0")
	list, err := readVLANs(host.NS)
	if a, b := list.untagged(port), list.untagged(bridge); err != nil || list == nil || a != b {
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

// vlanLink makes the body of a message about a bridge, or about what has the
// bridge's attribute without being one.
func vlanLink(kind string, filtering byte) []byte {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = 5
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.ZeroTerminated(kind))
	info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.IFLA_BR_VLAN_FILTERING, []byte{filtering})
	return append(msg.Serialize(), info.Serialize()...)
}

// serialized32 is an attribute as the library writes it.
func serialized32(kind int, value uint32) []byte {
	return nl.NewRtAttr(kind, nl.Uint32Attr(value)).Serialize()
}
