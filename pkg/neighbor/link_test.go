// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A macvlan lists the addresses that it takes frames from. What the kernel says of one is read; the same message with a number that it has no room for
// is refused before anybody makes room for that.
func TestMacvlanThatPromisesMoreAddressesThanItLists(t *testing.T) {
	host, _ := pair(t)
	host.IP("link add link lxc0 name mv0 type macvlan mode source",
		"link set mv0 type macvlan macaddr add "+hostMAC2, "link set mv0 type macvlan macaddr add "+otherMAC)
	tb := openTable(t, host.NS)
	var body []byte
	err := tb.conn.dump(t.Context(), linksRequest(), func() { body = nil }, func(b []byte) error {
		if l, err := parseLink(b); err != nil || l.name != "mv0" {
			return err
		}
		body = bytes.Clone(b)
		return nil
	})
	if err != nil || body == nil {
		t.Fatalf("the kernel's own message: %v, %v", body, err)
	}
	count, err := inside(body[unix.SizeofIfInfomsg:], unix.IFLA_LINKINFO, nl.IFLA_INFO_DATA, nl.IFLA_MACVLAN_MACADDR_COUNT)
	if err != nil || len(count) != 4 || binary.NativeEndian.Uint32(count) != 2 {
		t.Fatalf("count % x, %v", count, err)
	}
	for _, n := range []uint32{1 << 14, 1 << 28, 1<<32 - 1} {
		binary.NativeEndian.PutUint32(count, n) // a part of body
		if l, err := parseLink(body); !errors.Is(err, errMalformed) || l != (link{}) {
			t.Errorf("%d: %+v, %v", n, l, err)
		}
	}
}
