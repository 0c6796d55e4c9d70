// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

var (
	// short is for cases in which nobody answers.
	short = Options{Timeout: 150 * time.Millisecond}
	// patient is for cases in which everybody answers, which takes a machine that is busy a while.
	patient = Options{Timeout: time.Minute}
)

func probeFor(t testing.TB, ns *nstest.NS, asks []neighbor.Ask, o Options) []string {
	t.Helper()
	answers, err := Gateways(t.Context(), ns.NS, asks, o)
	if err != nil {
		t.Fatal(err)
	}
	list := make([]string, 0, len(answers))
	for i, a := range answers {
		if a.Ask != asks[i] {
			t.Errorf("answer %d is to %+v", i, a.Ask)
		}
		line := fmt.Sprint(a.Ask.Dst)
		for _, mac := range slices.Sorted(slices.Values(a.LLAddrs)) {
			line += " " + mac.String()
		}
		if a.Agreed {
			line += " agreed"
		}
		list = append(list, line)
	}
	return list
}

func expectAnswers(t testing.TB, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

// expectEntries compares a pod's permanent entries, and those for the gateway, with
// what `ip neigh` is to print.
func expectEntries(t testing.TB, pod *nstest.NS, want string) {
	t.Helper()
	var got strings.Builder
	for line := range strings.Lines(pod.Output("neigh", "show")) {
		if words := strings.Fields(line); slices.Contains(words, "PERMANENT") || words[0] == gateway4 || words[0] == gateway6 {
			got.WriteString(strings.Join(words, " ") + "\n")
		}
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

var (
	bothAgree = []string{gateway4 + " " + routerMAC + " agreed", gateway6 + " " + routerMAC + " agreed"}
	nobody    = []string{gateway4, gateway6}
)

func TestProbeHearsTheRouter(t *testing.T) {
	s := newStretch(t)
	s.router(routerMAC)
	pod := s.pod()
	start := time.Now()
	expectAnswers(t, probeFor(t, pod, asksOf(pod), patient), bothAgree...)
	if took := time.Since(start); took >= patient.Timeout {
		t.Errorf("it took %v, as if nobody had answered", took)
	}
	expectEntries(t, pod, "") // the kernel took no part
}

func TestProbeGivesUpAfterTheTimeout(t *testing.T) {
	s := newStretch(t)
	pod := s.pod()
	start := time.Now()
	expectAnswers(t, probeFor(t, pod, asksOf(pod), short), nobody...)
	if took := time.Since(start); took < short.Timeout {
		t.Errorf("it took %v", took)
	}
}

func TestTwoRoutersDoNotAgree(t *testing.T) {
	s := newStretch(t)
	s.router(routerMAC)
	s.router(otherMAC)
	pod := s.pod()
	both := " " + otherMAC + " " + routerMAC
	expectAnswers(t, probeFor(t, pod, asksOf(pod), patient), gateway4+both, gateway6+both)
}

// Every way to claim the gateway beside its router is noticed, and nothing else
// disturbs the agreement.
func TestProbeAndASpoofer(t *testing.T) {
	contested := []string{gateway4 + " " + routerMAC + " " + spoofMAC, gateway6 + " " + routerMAC + " " + spoofMAC}
	only := func(family byte, f []byte) func(int, []byte) [][]byte {
		return func(_ int, q []byte) [][]byte {
			if q[etherType] != family {
				return nil
			}
			return [][]byte{f}
		}
	}
	const ip4, ip6 = 0x0806 >> 8, 0x86dd >> 8
	altered := func(family byte, change func(f []byte)) func(int, []byte) [][]byte {
		return func(_ int, q []byte) [][]byte {
			if q[etherType] != family {
				return nil
			}
			return [][]byte{changed(reply(q, spoofMAC), change)}
		}
	}
	for _, c := range []struct {
		name  string
		spoof func(n int, q []byte) [][]byte
		want  []string
	}{
		{"answers everything", func(_ int, q []byte) [][]byte { return [][]byte{reply(q, spoofMAC)} }, contested},
		{"answers the second question only", func(n int, q []byte) [][]byte {
			if n != 2 {
				return nil
			}
			return [][]byte{reply(q, spoofMAC)}
		}, contested},
		{"gratuitous reply", only(ip4, announcement(spoofMAC, arpReply)),
			[]string{contested[0], bothAgree[1]}},
		{"gratuitous request", only(ip4, announcement(spoofMAC, arpRequest)),
			[]string{contested[0], bothAgree[1]}},
		{"unsolicited advertisement with override", only(ip6, advertisement(spoofMAC, 1<<5)),
			[]string{bothAgree[0], contested[1]}},
		{"in a VLAN", func(_ int, q []byte) [][]byte { return [][]byte{tagged(reply(q, spoofMAC))} }, bothAgree},
		{"address of a group", func(_ int, q []byte) [][]byte { return [][]byte{from(spoofMAC, reply(q, "03:00:00:00:0b:01"))} }, bothAgree},
		{"advertisement without its option", altered(ip6, func(f []byte) { f[ndOptions] = ndSourceLLAddr }), bothAgree},
		{"advertisement from beyond a router", altered(ip6, func(f []byte) { f[ip6HopLimit]-- }), bothAgree},
		{"advertisement with a wrong checksum", func(_ int, q []byte) [][]byte {
			if q[etherType] != ip6 {
				return nil
			}
			f := reply(q, spoofMAC)
			f[icmp6Checksum]++
			return [][]byte{f}
		}, bothAgree},
		{"half a frame", func(_ int, q []byte) [][]byte { f := reply(q, spoofMAC); return [][]byte{f[:len(f)-4]} }, bothAgree},
		{"for another IPv4 address", altered(ip4, func(f []byte) { f[arpSender+3]++ }), bothAgree},
		{"for another IPv6 address", altered(ip6, func(f []byte) { f[ndTarget+15]++ }), bothAgree},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStretch(t)
			// One station is both: of two, the router's kernel may be done long before this process comes to run.
			react(t, s.station(), func(n int, q []byte) [][]byte { return append(c.spoof(n, q), reply(q, routerMAC)) })
			pod := s.pod()
			expectAnswers(t, probeFor(t, pod, asksOf(pod), patient), c.want...)
		})
	}
}

func changed(f []byte, change func(f []byte)) []byte {
	change(f)
	if f[etherType] == 0x86 {
		summed(f)
	}
	return f
}

// from makes another station send a frame. A bridge passes none on that a group would
// have sent.
func from(mac string, f []byte) []byte {
	copy(f[hwaddrLen:], macOf(mac))
	return f
}

func tagged(f []byte) []byte {
	return slices.Concat(f[:etherType], []byte{0x81, 0, 0, 7}, f[etherType:])
}

// Claims alone are no answers, however often they are made, and two answers to
// one question are one.
func TestProbeWantsTwoAnswersToTwoQuestions(t *testing.T) {
	for name, spoof := range map[string]func(n int, q []byte) [][]byte{
		"announcements": func(_ int, q []byte) [][]byte {
			if q[etherType+1] == 6 {
				return [][]byte{announcement(routerMAC, arpReply), announcement(routerMAC, arpRequest)}
			}
			return [][]byte{advertisement(routerMAC, 1<<5)}
		},
		"what it says to us unasked": func(_ int, q []byte) [][]byte {
			if q[etherType+1] == 6 {
				return [][]byte{changed(reply(q, routerMAC), func(f []byte) { f[arpOperation+1] = arpRequest })}
			}
			return [][]byte{changed(reply(q, routerMAC), func(f []byte) { f[ndFlags] = 1 << 5 })}
		},
		"what it answers others": func(_ int, q []byte) [][]byte {
			if q[etherType+1] == 6 {
				return [][]byte{changed(reply(q, routerMAC), func(f []byte) { f[arpTarget+3]++ })}
			}
			return [][]byte{changed(reply(q, routerMAC), func(f []byte) { f[ip6Dest+15]++ })}
		},
		"one question answered twice": func(n int, q []byte) [][]byte {
			if n > 1 {
				return nil
			}
			return [][]byte{reply(q, routerMAC), reply(q, routerMAC)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each takes the whole of the timeout, which leaves a busy machine time to hear
			s := newStretch(t)
			react(t, s.station(), spoof)
			pod := s.pod()
			expectAnswers(t, probeFor(t, pod, asksOf(pod), Options{Timeout: 3 * defaultTimeout}), gateway4+" "+routerMAC, gateway6+" "+routerMAC)
		})
	}
}

// A router that speaks for a virtual address need not send from it.
func TestTheAddressInsideThePacketCounts(t *testing.T) {
	s := newStretch(t)
	react(t, s.station(), func(_ int, q []byte) [][]byte {
		return [][]byte{changed(from(otherMAC, reply(q, routerMAC)), func(f []byte) {
			if f[etherType] == 0x86 {
				copy(f[ip6Source:], netip.MustParseAddr("fe80::9").AsSlice())
			}
		})}
	})
	pod := s.pod()
	expectAnswers(t, probeFor(t, pod, asksOf(pod), patient), bothAgree...)
}

// What Probe is for: a permanent entry makes the kernel deaf to the router's new
// address, a runtime has taken the sandbox's addresses and routes, and the
// answers are heard all the same.
func TestProbeSeesANewAddressPastAPinAndWithoutAddresses(t *testing.T) {
	s := newStretch(t)
	router := s.router(otherMAC)
	pod := s.pod()
	asks := asksOf(pod)
	pins := []string{gateway4 + " dev eth0 lladdr " + otherMAC + " PERMANENT", gateway6 + " dev eth0 lladdr " + otherMAC + " PERMANENT"}
	pod.IP("neigh replace "+gateway4+" lladdr "+otherMAC+" dev eth0 nud permanent", "neigh replace "+gateway6+" lladdr "+otherMAC+" dev eth0 nud permanent")
	expectAnswers(t, probeFor(t, pod, asks, patient), gateway4+" "+otherMAC+" agreed", gateway6+" "+otherMAC+" agreed")
	router.IP("link set eth0 address " + routerMAC)
	expectAnswers(t, probeFor(t, pod, asks, patient), bothAgree...)
	expectEntries(t, pod, pins[0]+"\n"+pins[1]+"\n")
	pod.IP("addr flush dev eth0")
	if left := pod.Output("addr", "show", "dev", "eth0"); strings.Contains(left, "inet") {
		t.Fatal(left)
	}
	expectAnswers(t, probeFor(t, pod, asks, patient), bothAgree...)
	expectEntries(t, pod, pins[1]+"\n") // the kernel drops IPv4's with the last address
}

// IPv6 is not asked for without an address, since that would look like a
// station that takes the gateway's; IPv4 may be.
func TestProbeWithoutAnOwnAddress(t *testing.T) {
	s := newStretch(t)
	s.router(routerMAC)
	pod := s.station()
	asks := asksOf(pod)
	asks[0].Src, asks[1].Src = netip.Addr{}, netip.Addr{}
	expectAnswers(t, probeFor(t, pod, asks, patient), bothAgree[0], gateway6)
	r, err := newRound(pod.NS, asks, short)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if len(r.inquiries) != 1 || !netip.AddrFrom4([4]byte(r.inquiries[0].frame[arpSender:])).IsUnspecified() {
		t.Errorf("asked: %+v", r.inquiries)
	}
}

// Of one link several addresses may be asked for, and of several links one.
func TestSeveralGatewaysAreAskedForAtOnce(t *testing.T) {
	s := newStretch(t)
	s.router(routerMAC)
	s.station("link set eth0 address "+otherMAC, "addr add 10.0.0.9/24 dev eth0", "addr add fd00::9/64 dev eth0 nodad")
	pod := s.pod()
	elsewhere := newStretch(t) // with the same gateway
	elsewhere.router(spoofMAC)
	pod.Veth("eth1", elsewhere.bridge, "port9")
	elsewhere.bridge.IP("link set port9 master br0")
	pod.IP("addr add 10.1.0.2/24 dev eth1")
	first := asksOf(pod)
	var asks []neighbor.Ask
	for _, ask := range first {
		asks = append(asks, ask)
		if ask.Dst.Is4() {
			ask.Dst = netip.MustParseAddr("10.0.0.9")
		} else {
			ask.Dst = netip.MustParseAddr("fd00::9")
		}
		asks = append(asks, ask)
	}
	other := first[0]
	other.Dev, other.Src, other.LLAddr = "eth1", netip.MustParseAddr("10.1.0.2"), neighbor.HardwareAddr(pod.MAC("eth1"))
	asks = append(asks, other)
	expectAnswers(t, probeFor(t, pod, asks, patient),
		bothAgree[0], "10.0.0.9 "+otherMAC+" agreed", bothAgree[1], "fd00::9 "+otherMAC+" agreed", gateway4+" "+spoofMAC+" agreed")
	r, err := newRound(pod.NS, asks, short)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if len(r.sockets) != 3 || len(r.inquiries) != len(asks) {
		t.Errorf("%d questions by %d sockets, want one socket for each link and family", len(r.inquiries), len(r.sockets))
	}
}

func TestProbeOfLinksThatDoNotWork(t *testing.T) {
	s := newStretch(t)
	s.router(routerMAC)
	pod := s.pod()
	asks := asksOf(pod)
	missing := asks[0]
	missing.Dev = "eth9"
	expectAnswers(t, probeFor(t, pod, []neighbor.Ask{missing, asks[0]}, patient), gateway4, bothAgree[0])
	pod.IP("link set eth0 down")
	expectAnswers(t, probeFor(t, pod, asks, short), nobody...)
	pod.IP("link set eth0 up")
	nstest.Eventually(t, "answers after the link is up again", func() bool {
		return slices.Equal(probeFor(t, pod, asks[:1], short), bothAgree[:1])
	})
}

// The sandbox ends while it is asked for: its link goes, and nothing is left but
// the sockets.
func TestProbeOutlivesTheSandbox(t *testing.T) {
	s := newStretch(t)
	pod := s.pod()
	asks := asksOf(pod)
	var once sync.Once
	ended := make(chan struct{})
	react(t, s.station(), func(int, []byte) [][]byte {
		once.Do(func() {
			s.bridge.IP("link del port1")
			_ = pod.Close()
			close(ended)
		})
		return nil
	})
	expectAnswers(t, probeFor(t, pod, asks, short), nobody...)
	select {
	case <-ended:
	case <-time.After(patient.Timeout):
		t.Fatal("nobody was asked")
	}
	if _, err := Gateways(t.Context(), pod.NS, asks, short); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a namespace that is closed: %v", err)
	}
}

func TestProbeEndsWithItsContext(t *testing.T) {
	s := newStretch(t)
	pod := s.pod()
	asks := asksOf(pod)
	ctx, cancel := context.WithCancel(t.Context())
	react(t, s.station(), func(int, []byte) [][]byte { cancel(); return nil })
	start := time.Now()
	answers, err := Gateways(ctx, pod.NS, asks, Options{Interval: time.Minute, Timeout: time.Hour})
	if !errors.Is(err, context.Canceled) || answers != nil || time.Since(start) > time.Minute/2 {
		t.Errorf("%v, %v after %v", answers, err, time.Since(start))
	}
}

func TestProbeRefusesWhatIsNoQuestion(t *testing.T) {
	pod := nstest.New(t)
	good := neighbor.Ask{Dst: netip.MustParseAddr(gateway4), Dev: "lo", LLAddr: routerMAC}
	for name, change := range map[string]func(a *neighbor.Ask){
		"no address":     func(a *neighbor.Ask) { a.Dst = netip.Addr{} },
		"a group":        func(a *neighbor.Ask) { a.Dst = netip.MustParseAddr("224.0.0.1") },
		"a zone":         func(a *neighbor.Ask) { a.Dst = netip.MustParseAddr("fe80::1%eth0") },
		"nobody":         func(a *neighbor.Ask) { a.Dst = netip.IPv4Unspecified() },
		"nobody, IPv6":   func(a *neighbor.Ask) { a.Dst = netip.IPv6Unspecified() },
		"IPv4 in IPv6":   func(a *neighbor.Ask) { a.Dst = netip.MustParseAddr("::ffff:10.0.0.1") },
		"another family": func(a *neighbor.Ask) { a.Src = netip.MustParseAddr("fd00::2") },
		"from IPv4 in IPv6": func(a *neighbor.Ask) {
			a.Dst, a.Src = netip.MustParseAddr(gateway6), netip.MustParseAddr("::ffff:10.0.0.2")
		},
		"from a zone": func(a *neighbor.Ask) {
			a.Dst, a.Src = netip.MustParseAddr(gateway6), netip.MustParseAddr("fe80::2%eth0")
		},
		"no own MAC": func(a *neighbor.Ask) { a.LLAddr = "" },
	} {
		ask := good
		change(&ask)
		var typed *neighbor.EntryError
		if _, err := Gateways(t.Context(), pod.NS, []neighbor.Ask{ask}, short); !errors.As(err, &typed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProbeNeedsNetRaw(t *testing.T) {
	s := newStretch(t)
	pod := s.pod()
	p := &round{asks: asksOf(pod)}
	defer p.close()
	err := pod.Do(func() error { return nstest.Without(unix.CAP_NET_RAW, p.open) })
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "CAP_NET_RAW") {
		t.Errorf("error %v", err)
	}
}
