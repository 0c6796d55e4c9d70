// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// recordedFrames are what a real kernel answers, in both families, with the
// questions and what else was on the wire.
func recordedFrames(tb testing.TB) (frames [][]byte) {
	tb.Helper()
	s := newStretch(tb)
	s.router(routerMAC)
	pod := s.pod()
	file := tap(tb, pod)
	if _, err := Gateways(context.Background(), pod.NS, asksOf(pod), patient); err != nil {
		tb.Fatal(err)
	}
	if err := file.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		tb.Fatal(err)
	}
	claims := 0
	for buf := make([]byte, 2*frameSize); claims < 4; {
		n, err := file.Read(buf)
		if err != nil {
			tb.Fatalf("%d frames, %d claims, then %v", len(frames), claims, err)
		}
		frame := append([]byte(nil), buf[:n]...)
		frames = append(frames, frame)
		for _, parse := range []func([]byte) (claim, bool){parseARP, parseNA} {
			if c, ok := parse(frame); ok && c.lladdr == routerMAC {
				claims++
			}
		}
	}
	return frames
}

// passes tells whether the filter for one address lets a frame through. The
// library's machine does not know the kernel's kinds of packets, which the first
// three instructions are about.
func passes(tb testing.TB, target netip.Addr, frame []byte) bool {
	tb.Helper()
	another := netip.MustParseAddr("192.0.2.77")
	if target.Is6() {
		another = netip.MustParseAddr("2001:db8::77")
	}
	machine, err := bpf.NewVM(filter([]netip.Addr{another, target})[3:])
	if err != nil {
		tb.Fatal(err)
	}
	n, err := machine.Run(frame)
	if err != nil {
		tb.Fatal(err)
	}
	return n > 0
}

func FuzzParseARP(f *testing.F) {
	for _, frame := range recordedFrames(f) {
		f.Add(frame)
	}
	f.Add(announcement(spoofMAC, arpRequest))
	f.Add(announcement(spoofMAC, arpReply))
	f.Add(tagged(announcement(spoofMAC, arpReply)))
	f.Fuzz(func(t *testing.T, frame []byte) {
		c, ok := parseARP(frame)
		if !ok {
			if c != (claim{}) {
				t.Fatalf("refused, with %+v", c)
			}
			return
		}
		if !c.dst.Is4() || !c.lladdr.IsUnicast() || c.asker == c.dst {
			t.Fatalf("%+v", c)
		}
		if again, ok := parseARP(frame[:arpLen]); !ok || again != c {
			t.Fatalf("%+v, and without what follows %+v", c, again)
		}
		if !passes(t, c.dst, frame) {
			t.Fatalf("the filter holds back %+v", c)
		}
	})
}

func FuzzParseNA(f *testing.F) {
	for _, frame := range recordedFrames(f) {
		f.Add(frame)
	}
	f.Add(advertisement(spoofMAC, 1<<5))
	f.Add(append(advertisement(spoofMAC, ndSolicited), make([]byte, 40)...))
	f.Add(tagged(advertisement(spoofMAC, 0)))
	f.Fuzz(func(t *testing.T, frame []byte) {
		c, ok := parseNA(frame)
		if !ok {
			return
		}
		if !c.dst.Is6() || !c.lladdr.IsUnicast() {
			t.Fatalf("%+v", c)
		}
		if again, ok := parseNA(append(frame[:len(frame):len(frame)], 1)); !ok || again != c {
			t.Fatalf("%+v, and with a byte behind it %+v", c, again)
		}
		if !passes(t, c.dst, frame) {
			t.Fatalf("the filter holds back %+v", c)
		}
	})
}

// A parser reads no more than there is, and half a frame claims nothing.
func TestHalfAFrameClaimsNothing(t *testing.T) {
	for _, frame := range [][]byte{announcement(routerMAC, arpReply), advertisement(routerMAC, ndSolicited)} {
		for n := range frame {
			if c, ok := parseARP(frame[:n:n]); ok {
				t.Errorf("%d of %d bytes: %+v", n, len(frame), c)
			}
			if c, ok := parseNA(frame[:n:n]); ok {
				t.Errorf("%d of %d bytes: %+v", n, len(frame), c)
			}
		}
	}
}

// The sandbox's own traffic is not copied: the filter lets nothing through but
// claims of what was asked for.
func TestFilterLetsOnlyClaimsThrough(t *testing.T) {
	claims := 0
	for _, frame := range recordedFrames(t) {
		for _, target := range []string{gateway4, gateway6, "10.0.0.3", "fd00::3"} {
			c, ok := parseARP(frame)
			if !ok {
				c, ok = parseNA(frame)
			}
			want := ok && c.dst == netip.MustParseAddr(target)
			got := passes(t, netip.MustParseAddr(target), frame)
			if got != want {
				t.Errorf("%s: %v for % x", target, got, frame)
			}
			if got {
				claims++
			}
		}
	}
	if claims < 4 {
		t.Errorf("only %d claims", claims)
	}
	other := changed(advertisement(routerMAC, ndSolicited), func(f []byte) { f[ip6NextHeader] = unix.IPPROTO_TCP })
	if passes(t, netip.MustParseAddr(gateway6), other) {
		t.Error("TCP whose bytes are those of a claim is copied")
	}
}
