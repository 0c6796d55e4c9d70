// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"testing"

	"github.com/vishvananda/netlink/nl"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

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
		list := rtnetlink.VLANs{2: c.port, 1: c.bridge}
		port, bridge := list.Untagged(2), list.Untagged(1)
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
	l, err := tb.conn.Link(t.Context(), linkIndex(t, tb, "eth0"), rtnetlink.NSIDNone)
	if err != nil {
		t.Fatal(err)
	}
	filtering := rtnetlink.Link{Name: "cni0", Kind: rtnetlink.KindBridge, VLANFiltering: true}
	look := tb.newSurvey()
	if seg, v, err := look.openSegment(t.Context(), rtnetlink.Link{Name: "lxc0"}, filtering, l.NSID); err != nil || seg != nil || v.reason != ReasonBridgeVLAN {
		t.Errorf("a bridge in a third namespace: %+v, %+v, %v", seg, v, err)
	}
	tb.host = host.NS
	look = tb.newSurvey()
	if seg, v, err := look.openSegment(t.Context(), rtnetlink.Link{Name: "lxc0"}, filtering, l.NSID); err != nil || seg == nil || seg.vlans == nil || !v.known() {
		t.Errorf("a bridge of the host's: %+v, %+v, %v", seg, v, err)
	}
	// The kernel lists ports and bridges by this request, without VLANs here.
	hostTable := openTable(t, host.NS)
	port, bridge := linkIndex(t, hostTable, "lxc0"), linkIndex(t, hostTable, "cni0")
	var list rtnetlink.VLANs
	err = host.Do(func() (err error) {
		list, err = rtnetlink.ReadVLANs()
		return err
	})
	if a, b := list.Untagged(port), list.Untagged(bridge); err != nil || list == nil || a != b {
		t.Errorf("%+v, %+v, %v", a, b, err)
	}
}

func TestNamespacesAreRecognisedByTheirNumber(t *testing.T) {
	first, second, pod, stranger := nstest.New(t), nstest.New(t), nstest.New(t), nstest.New(t)
	pod.Veth("eth0", first, "lxc0") // numbers are given with the first link
	pod.Veth("eth1", second, "lxc1")
	tb := openTable(t, pod.NS)
	for want, ns := range map[int32]*nstest.NS{0: first, 1: second, rtnetlink.NSIDNone: stranger} {
		if got, err := tb.conn.NSID(t.Context(), ns.FD()); got != want || err != nil {
			t.Errorf("number %d, %v, want %d", got, err, want)
		}
	}
}
