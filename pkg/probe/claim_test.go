// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the kernel asks on the wire when a program of the pod sends something is what
// is asked here, byte by byte.
func TestQuestionsAreThoseOfTheKernel(t *testing.T) {
	s := newStretch(t)
	pod := s.pod()
	asked := make(chan []byte, 100)
	react(t, s.station(), func(_ int, q []byte) [][]byte { asked <- bytes.Clone(q); return nil })
	for _, ask := range asksOf(pod) {
		if err := pod.Do(func() error {
			conn, err := net.Dial("udp", net.JoinHostPort(ask.Dst.String(), "9"))
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			_, err = conn.Write([]byte("?"))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		ours := question(ask, ask.Src)
		for of := false; !of; {
			select {
			case kernels := <-asked:
				// On a machine that stood still, one that asks again for the address before may come late.
				if of = bytes.Equal(ours[etherType:etherLen], kernels[etherType:etherLen]); of && !bytes.Equal(ours, kernels) {
					t.Errorf("%s: we ask\n% x, the kernel\n% x", ask.Dst, ours, kernels)
				}
			case <-time.After(patient.Timeout):
				t.Fatalf("%s: the kernel asks nothing", ask.Dst)
			}
		}
		pod.IP("neigh flush dev eth0") // it would ask again
		for drained := false; !drained; {
			select {
			case <-asked:
			default:
				drained = true
			}
		}
	}
}

// Both families' parsers take a frame for what it says it is, and for nothing else.
// Each case is a claim with one thing that is not right.
func TestWhatIsNoClaimOfAStation(t *testing.T) {
	arp := func() []byte { return announcement(routerMAC, arpReply) }
	nd := func() []byte { return advertisement(routerMAC, ndSolicited) }
	with := func(f []byte, options ...byte) []byte {
		f = append(f, options...)
		binary.BigEndian.PutUint16(f[ip6PayloadLen:], uint16(len(f)-icmp6))
		return summed(f)
	}
	for name, f := range map[string][]byte{
		"ARP in a frame of another type":    changed(arp(), func(f []byte) { f[etherType+1] = 0x35 }),
		"ARP of another kind of link":       changed(arp(), func(f []byte) { f[etherLen+1] = 32 }),
		"ARP about another protocol":        changed(arp(), func(f []byte) { f[etherLen+3] = 1 }),
		"ARP with long addresses":           changed(arp(), func(f []byte) { f[etherLen+4] = 8 }),
		"a reverse request":                 changed(arp(), func(f []byte) { f[arpOperation+1] = 3 }),
		"an operation of the second byte":   changed(arp(), func(f []byte) { f[arpOperation] = arpReply }),
		"ARP of a group":                    announcement("03:00:00:00:0a:01", arpReply),
		"ARP of nobody":                     announcement("00:00:00:00:00:00", arpReply),
		"ND in a frame of another type":     func() []byte { f := nd(); f[etherType] = 8; return f }(),
		"ND in a packet of IPv4":            changed(nd(), func(f []byte) { f[etherLen] = 4 << 4 }),
		"ND as UDP":                         changed(nd(), func(f []byte) { f[ip6NextHeader] = unix.IPPROTO_UDP }),
		"ND from beyond a router":           changed(nd(), func(f []byte) { f[ip6HopLimit] = 64 }),
		"a solicitation":                    changed(nd(), func(f []byte) { f[icmp6] = icmp6Solicitation }),
		"an advertisement of another code":  changed(nd(), func(f []byte) { f[icmp6Code] = 1 }),
		"a wrong checksum":                  func() []byte { f := nd(); f[icmp6Checksum]++; return f }(),
		"a payload of nothing":              func() []byte { f := nd(); f[ip6PayloadLen+1] = 0; return f }(),
		"a payload that ends in the target": func() []byte { f := nd(); f[ip6PayloadLen+1] = ndOptions - icmp6 - 1; return f }(),
		"no option":                         with(nd()[:ndOptions]),
		"an option of another kind":         changed(nd(), func(f []byte) { f[ndOptions] = ndSourceLLAddr }),
		"an option without a length":        changed(nd(), func(f []byte) { f[ndOptions+1] = 0 }),
		"another option without a length":   with(nd(), 14, 0, 0, 0, 0, 0, 0, 0),
		"an option that is longer than all": changed(nd(), func(f []byte) { f[ndOptions+1] = 2 }),
		"an option that is cut off":         with(nd(), 14),
		"an address of ten bytes":           with(changed(nd(), func(f []byte) { f[ndOptions+1] = 2 }), make([]byte, 8)...),
		"ND of a group":                     advertisement("03:00:00:00:0a:01", ndSolicited),
		"ND of nobody":                      advertisement("00:00:00:00:00:00", ndSolicited),
	} {
		if c, ok := parseARP(f); ok {
			t.Errorf("%s: ARP claims %+v", name, c)
		}
		if c, ok := parseNA(f); ok {
			t.Errorf("%s: neighbor discovery claims %+v", name, c)
		}
	}
	if _, ok := parseARP(arp()); !ok {
		t.Error("nothing is wrong, and ARP claims nothing")
	}
	for name, f := range map[string][]byte{
		"nothing is wrong": nd(),
		"a nonce follows":  with(nd(), 14, 1, 0, 0, 0, 0, 0, 0),
		"a second address": with(nd(), append([]byte{ndTargetLLAddr, 1}, macOf(spoofMAC)...)...),
	} {
		if c, ok := parseNA(f); !ok || c.lladdr != routerMAC {
			t.Errorf("%s: %t, %+v", name, ok, c)
		}
	}
}

// A sum can need to be folded more than once, which few addresses show.
func TestAChecksumIsRightWhateverTheAddress(t *testing.T) {
	f := advertisement(routerMAC, ndSolicited)
	for low := range 1 << 16 {
		binary.BigEndian.PutUint16(f[ndTarget+14:], uint16(low))
		if sum := sum6(summed(f)); sum != 0xffff {
			t.Fatalf("an address that ends in %04x: %04x", low, sum)
		}
	}
}
