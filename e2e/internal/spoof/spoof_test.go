// SPDX-License-Identifier: Apache-2.0

package spoof

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
)

// The kernel itself judges the frames: a wrong length, checksum or hop limit would be dropped without a word.
func TestTheKernelBelievesTheSpoofer(t *testing.T) {
	victim, liar := nstest.New(t), nstest.New(t)
	victim.Veth("eth0", liar, "eth0")
	victim.IP("addr add 192.0.2.2/24 dev eth0", "addr add 2001:db8::2/64 dev eth0 nodad")
	ips := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	var s *Spoofer
	if err := liar.Do(func() (err error) { s, err = Start("eth0", ips...); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if s.MAC() != liar.MAC("eth0") {
		t.Errorf("the spoofer claims for %s, want %s", s.MAC(), liar.MAC("eth0"))
	}
	learned := func() bool {
		out := victim.Output("neigh", "show")
		return strings.Count(out, s.MAC()) >= len(ips)
	}
	t.Run("it answers", func(t *testing.T) {
		victim.IP("neigh add 192.0.2.1 dev eth0 use nud none", "neigh add 2001:db8::1 dev eth0 use nud none")
		nstest.Eventually(t, "both answers to be believed", learned)
		if s.Answered() < int64(len(ips)) {
			t.Errorf("%d answers", s.Answered())
		}
	})
	t.Run("it overrides what was known", func(t *testing.T) {
		const other = "02:00:00:00:00:99"
		for _, ip := range ips {
			victim.IP("neigh replace " + ip.String() + " dev eth0 lladdr " + other + " nud reachable")
		}
		nstest.Eventually(t, "both claims to be believed", learned)
	})
}

func TestNobodyElseIsAnsweredFor(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for name, frame := range map[string][]byte{
		"empty":             nil,
		"cut off":           ethernet(broadcast, mac, 0x0806),
		"a reply":           claim(netip.MustParseAddr("192.0.2.1"), mac, question{}),
		"an advertisement":  claim(netip.MustParseAddr("2001:db8::1"), mac, question{}),
		"another protocol":  append(ethernet(broadcast, mac, 0x0800), bytes.Repeat([]byte{0}, 64)...),
		"IPv6 without ICMP": append(ethernet(broadcast, mac, 0x86dd), bytes.Repeat([]byte{0}, 64)...),
	} {
		if q, ok := parse(frame); ok {
			t.Errorf("%s: taken for the question %+v", name, q)
		}
	}
}
