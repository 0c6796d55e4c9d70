// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

// So it does of links. VLAN links, which not every kernel has, are made here.
func TestLinksAgreeWithAnotherReader(t *testing.T) {
	host, pod := nstest.DualStackPair(t)
	pod.Veth("eth1", host, "lxc1")
	host.IP("link add name br0 type bridge", "link set lxc1 master br0", "link set br0 up", "link set lxc1 arp off",
		"link add link lxc0 name mv0 type macvlan mode source", "link set mv0 type macvlan macaddr add "+hostMAC2)
	c, seen := dial(t, host.NS), make(map[string]bool)
	compare := func(body []byte) error {
		ours, err := ParseLink(body)
		if err != nil {
			return err
		}
		theirs, err := libraryLink(body)
		if err != nil {
			return err
		}
		theirs.Inet6 = ours.Inet6 // which it leaves out
		if ours.Kind == KindBridge {
			theirs.VLANProtocol = ours.VLANProtocol // and this
		}
		if ours != theirs {
			t.Errorf("ours   %+v\ntheirs %+v", ours, theirs)
		}
		seen[ours.Kind] = true
		return nil
	}
	for _, family := range []uint8{unix.AF_UNSPEC, unix.AF_BRIDGE} {
		request := newRequest(unix.RTM_GETLINK, 0, family, unix.SizeofIfInfomsg)
		if err := c.dump(t.Context(), request, func() {}, compare); err != nil {
			t.Fatal(err)
		}
	}
	if err := compare(vlanUpon(1, 20)); err != nil {
		t.Error(err)
	}
	for _, kind := range []string{"", KindVeth, KindBridge, KindVLAN, "macvlan"} {
		if !seen[kind] {
			t.Errorf("no link of kind %q among %v", kind, seen)
		}
	}
}

func libraryLink(body []byte) (Link, error) {
	read, err := netlink.LinkDeserialize(nil, body)
	if err != nil {
		return Link{}, err
	}
	a := read.Attrs()
	l := Link{Index: a.Index, Name: a.Name, Flags: a.RawFlags, LLAddr: a.HardwareAddr.String(), Master: a.MasterIndex,
		Other: a.ParentIndex, HasNSID: a.NetNsID != NSIDNone, NSID: int32(a.NetNsID)}
	if l.LLAddr == zeroLLAddr {
		l.LLAddr = ""
	}
	switch read := read.(type) {
	case *netlink.Device: // of no kind
	case *netlink.Vlan:
		l.Kind, l.VLAN, l.VLANProtocol = KindVLAN, uint16(read.VlanId), uint16(read.VlanProtocol)
	case *netlink.Bridge:
		l.Kind, l.VLANFiltering = KindBridge, read.VlanFiltering != nil && *read.VlanFiltering
	default:
		l.Kind = read.Type()
	}
	return l, nil
}
