// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/netns"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const hostMAC, hostMAC2, otherMAC = nstest.HostMAC, nstest.HostMAC2, nstest.OtherMAC

func dial(t testing.TB, ns *netns.NS) (c *Conn) {
	t.Helper()
	err := ns.Do(func() (err error) {
		c, err = Dial()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func linkIndex(t testing.TB, c *Conn, name string) int {
	t.Helper()
	l, err := c.LinkByName(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Index
}

// routes counts the routes by way of a gateway.
func routes(t testing.TB, c *Conn) (n int) {
	t.Helper()
	err := c.Routes(t.Context(), unix.AF_UNSPEC, func() { n = 0 }, func(r Route) {
		for _, h := range r.Hops {
			if h.Gateway.IsValid() {
				n++
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

// serialized32 is an attribute as the library writes it.
func serialized32(kind int, value uint32) []byte {
	return nl.NewRtAttr(kind, nl.Uint32Attr(value)).Serialize()
}

// vlanUpon is what the kernel would say of a VLAN link, which not every kernel has.
func vlanUpon(lower, id int) []byte {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = 20
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.ZeroTerminated(KindVLAN))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_VLAN_ID, nl.Uint16Attr(uint16(id)))
	data.AddRtAttr(nl.IFLA_VLAN_PROTOCOL, []byte{0x81, 0x00})
	body := append(msg.Serialize(), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("cni0.20")).Serialize()...)
	body = append(body, serialized32(unix.IFLA_LINK, uint32(lower))...)
	return append(body, info.Serialize()...)
}
