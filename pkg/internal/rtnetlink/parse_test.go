// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
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
	host, pod := nstest.DualStackPair(tb)
	pod.Veth("eth1", host, "lxc1")
	host.IP("link add name br0 type bridge", "link set lxc1 master br0", "link set br0 up")
	host.IP("link add link lxc0 name mv0 type macvlan mode source", "link set mv0 type macvlan macaddr add "+hostMAC2)
	for _, ns := range []*nstest.NS{pod, host} {
		if ns == pod {
			for _, line := range strings.Split(nexthopObjects, "\n") {
				pod.Output(strings.Fields(line)...)
			}
			pod.IP("route add 192.0.2.128/25 nexthop via 10.0.0.1 dev eth0 nexthop via inet6 fe80::1 dev eth1",
				"neigh add 10.0.0.1 lladdr "+hostMAC+" dev eth0 nud permanent protocol 177",
				"neigh add fd00::1 lladdr "+hostMAC+" dev eth0 nud stale")
		}
		c := dial(tb, ns.NS)
		mark := len(bodies)
		err := c.dump(tb.Context(), r, func() { bodies = bodies[:mark] }, func(body []byte) error {
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

// nexthopObjects are nexthop objects, groups of them, and routes that name them.
const nexthopObjects = `addr add 10.1.0.2/24 dev eth1
nexthop add id 1 via 10.0.0.1 dev eth0
nexthop add id 2 via 10.1.0.1 dev eth1
nexthop add id 3 via fd00::1 dev eth0
nexthop add id 11 group 1/2,3
route add 203.0.113.0/25 nhid 11
route add 192.0.2.0/25 nhid 1
-6 route add 2001:db8::/32 nhid 3`

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
		r, err := ParseRoute(body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || r.Hops != nil || r.Unicast {
				t.Fatalf("%+v, %v", r, err)
			}
			return
		}
		if r.Dst.IsValid() && r.Dst.Bits() != int(body[1]) {
			t.Fatalf("%+v", r)
		}
	})
}

func FuzzParseNexthop(f *testing.F) {
	for _, body := range records(f, whole(unix.RTM_GETNEXTHOP, unix.AF_UNSPEC, sizeofNhmsg)) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := parseNexthop(body)
		if err != nil && (!errors.Is(err, ErrMalformed) || n.Usable || n.Group != nil) {
			t.Fatalf("%+v, %v", n, err)
		}
	})
}

func FuzzParseLink(f *testing.F) {
	for _, body := range records(f, linksRequest(NSIDNone)) {
		f.Add(body)
	}
	f.Add(vlanLink("bridge", 1))
	f.Add(vlanUpon(1, 20))
	f.Fuzz(func(t *testing.T, body []byte) {
		l, err := ParseLink(body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || l != (Link{}) {
				t.Fatalf("%+v, %v", l, err)
			}
			return
		}
		if l.Index <= 0 || l.LLAddr != "" && len(l.LLAddr) != len(hostMAC) {
			t.Fatalf("%+v", l)
		}
	})
}

func FuzzParseAddr(f *testing.F) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for _, body := range records(f, addrsRequest(family, 0, NSIDNone)) {
			f.Add(body)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := ParseAddr(body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || a != (Addr{}) {
				t.Fatalf("%+v, %v", a, err)
			}
			return
		}
		if a.Index <= 0 || !a.IP.IsValid() {
			t.Fatalf("%+v", a)
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	for _, body := range records(f, whole(unix.RTM_GETNEIGH, unix.AF_UNSPEC, unix.SizeofNdMsg)) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := ParseEntry(body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || e != (Entry{}) {
				t.Fatalf("%+v, %v", e, err)
			}
			return
		}
		if len(e.States()) == 0 || e.LLAddr != "" && len(e.LLAddr) != len(hostMAC) {
			t.Fatalf("%+v", e)
		}
	})
}

func FuzzParseNSID(f *testing.F) {
	f.Add(append(make([]byte, 4), serialized32(netlink.NETNSA_NSID, 4)...))
	f.Fuzz(func(t *testing.T, body []byte) {
		if id, err := ParseNSID(body); err != nil && (!errors.Is(err, ErrMalformed) || id != 0) {
			t.Fatalf("%d, %v", id, err)
		}
	})
}

// A message that is cut off is refused, or read as one with fewer attributes.
func TestParsersRefuseHalfAMessage(t *testing.T) {
	for _, body := range records(t, linksRequest(NSIDNone)) {
		whole, err := ParseLink(body)
		if err != nil {
			t.Fatal(err)
		}
		for n := range body {
			l, err := ParseLink(slices.Clip(body[:n]))
			if err != nil && (!errors.Is(err, ErrMalformed) || l != (Link{})) || err == nil && (l.Index != whole.Index || l.Name != "" && l.Name != whole.Name) {
				t.Fatalf("link cut to %d of %d bytes: %+v, %v", n, len(body), l, err)
			}
		}
	}
}

func TestWrongLengthsAreRefused(t *testing.T) {
	const mark = 177
	attr := func(length uint16, value ...byte) []byte {
		b := binary.NativeEndian.AppendUint16(nil, length)
		return append(binary.NativeEndian.AppendUint16(b, netlink.NDA_PROTOCOL), value...)
	}
	for name, c := range map[string]struct {
		attr []byte
		want uint8
		err  error
	}{
		"longer than the message":       {attr(9, mark), 0, ErrMalformed},
		"shorter than its own header":   {attr(3, mark), 0, ErrMalformed},
		"without a value":               {attr(4), 0, ErrMalformed},
		"without the padding after it":  {attr(5, mark), mark, nil},
		"with less than a header after": {append(attr(5, mark, 0, 0, 0), 1, 2, 3), mark, nil},
	} {
		e, err := ParseEntry(append(make([]byte, unix.SizeofNdMsg), c.attr...))
		if e.Protocol != c.want || !errors.Is(err, c.err) {
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
		if l, err := ParseLink(c.body); err != nil || l.HasNSID != c.want || l.NSID != NSIDNone {
			t.Errorf("%+v, %v", l, err)
		}
	}
}

func TestBridgeThatFiltersVLANs(t *testing.T) {
	for on, want := range map[byte]bool{0: false, 1: true} {
		l, err := ParseLink(vlanLink("bridge", on))
		if err != nil || l.Kind != "bridge" || l.VLANFiltering != want {
			t.Errorf("filtering %d: %+v, %v", on, l, err)
		}
	}
	// The same attribute number means something else to another kind.
	if l, err := ParseLink(vlanLink("veth", 1)); err != nil || l.VLANFiltering {
		t.Errorf("veth: %+v, %v", l, err)
	}
}

func TestStateNamesAreThoseOfIP(t *testing.T) {
	for state, want := range map[uint16][]string{
		0: {"NONE"}, unix.NUD_PERMANENT: {"PERMANENT"}, unix.NUD_NOARP: {"NOARP"}, unix.NUD_PROBE: {"PROBE"},
		unix.NUD_STALE | unix.NUD_PERMANENT: {"STALE", "PERMANENT"}, 0x4000: {"0x4000"},
	} {
		if diff := cmp.Diff(want, (Entry{State: state}).States()); diff != "" {
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
