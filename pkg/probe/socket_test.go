// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// begun is a round that asks for the gateways, and has not yet.
func begun(t *testing.T, ns *nstest.NS, asks []neighbor.Ask) *round {
	t.Helper()
	r, err := newRound(ns.NS, asks, patient)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

// flood puts an announcement on the wire so many times.
func flood(t *testing.T, file *os.File, count int) {
	t.Helper()
	for range count {
		if _, err := file.Write(announcement(spoofMAC, arpRequest)); err != nil && !errors.Is(err, unix.ENOBUFS) {
			t.Fatal(err)
		}
	}
}

// Who claims in a flood can push another's claim out of the socket. That is no
// agreement.
func TestAFloodOfClaimsIsNoAgreement(t *testing.T) {
	s := newStretch(t)
	pod := s.pod()
	r := begun(t, pod, asksOf(pod)[:1])
	agreed := func() bool {
		answers, err := r.answers()
		if err != nil {
			t.Fatal(err)
		}
		return answers[0].Agreed
	}
	for q := r.inquiries[0]; !q.agreed(); {
		q.questions++
		q.hear(claim{lladdr: routerMAC, asker: q.asker}, q.next)
	}
	if !agreed() {
		t.Fatal("no agreement before the flood")
	}
	file := tap(t, s.station())
	nstest.Eventually(t, "a loss", func() bool { flood(t, file, 1000); return !agreed() })
}

// Who is heard claims again and again: the socket is never empty, and yet there is an
// end to reading it.
func TestAFloodOfClaimsIsReadInParts(t *testing.T) {
	s := newStretch(t)
	pod := s.pod()
	r := begun(t, pod, asksOf(pod)[:1])
	file := tap(t, s.station())
	nstest.Eventually(t, "a claim to be followed by others", func() bool {
		flood(t, file, 2)
		heard := 0
		if err := r.sockets[0].claims(func(claim) {
			if heard++; heard > 10*framesAtOnce {
				t.Fatal("there is no end")
			}
			flood(t, file, 2)
		}); err != nil {
			t.Fatal(err)
		}
		return heard > 1 && heard <= framesAtOnce
	})
}

// The kernel takes ARP from a frame of any length, and so is it heard.
func TestAClaimInAFrameThatIsLongerThanUsualIsHeard(t *testing.T) {
	const jumbo = "link set eth0 mtu 9000"
	s := newStretch(t)
	pod := s.pod()
	pod.IP(jumbo)
	spoofer := s.station(jumbo)
	s.bridge.IP("link set port1 mtu 9000", "link set port2 mtu 9000", "link set br0 mtu 9000")
	pod.Sysctl("net/ipv4/conf/eth0/arp_accept", "1")
	r := begun(t, pod, asksOf(pod)[:1])
	spoofer.Send("eth0", append(announcement(spoofMAC, arpReply), make([]byte, 3000)...))
	nstest.Eventually(t, "the kernel to take it", func() bool { return strings.Contains(pod.Output("neigh", "show", gateway4), spoofMAC) })
	nstest.Eventually(t, "the claim", func() bool {
		if err := r.sockets[0].claims(func(c claim) { r.hear(r.sockets[0], c) }); err != nil {
			t.Fatal(err)
		}
		return len(r.inquiries[0].claimants) == 1
	})
}

// A link may have no room for the moment, or for good. That is its matter.
func TestALinkWithoutRoomIsNoError(t *testing.T) {
	s := newStretch(t)
	s.router(routerMAC)
	pod := s.pod()
	if out, err := pod.Run("tc", "qdisc", "replace", "dev", "eth0", "root", "pfifo", "limit", "0"); err != nil {
		t.Fatal(out, err)
	}
	expectAnswers(t, probeFor(t, pod, asksOf(pod), short), nobody...)
}

// No link of a pod is too short for a question; one that were would be told of.
func TestAQuestionThatNoFrameHasRoomForIsToldOf(t *testing.T) {
	s := newStretch(t)
	pod := s.pod()
	asks := asksOf(pod)
	pod.IP("link set eth0 mtu 68")
	if _, err := Gateways(t.Context(), pod.NS, asks, short); !errors.Is(err, unix.EMSGSIZE) || !strings.Contains(err.Error(), "send question: ") {
		t.Errorf("error %v", err)
	}
}

// A name that no link can have is nobody's; what was opened for others before it is
// closed, which the end of all tests looks for.
func TestALinkThatCannotBeNamedIsToldOf(t *testing.T) {
	s := newStretch(t)
	pod := s.pod()
	asks := asksOf(pod)
	asks[1].Dev = strings.Repeat("x", unix.IFNAMSIZ)
	if _, err := Gateways(t.Context(), pod.NS, asks, short); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "name link") {
		t.Errorf("error %v", err)
	}
}

// What the kernel does not do for a socket is told, and counts as deafness.
func TestASocketThatIsNoneIsToldOf(t *testing.T) {
	none := &socket{fd: -1, parse: parseARP}
	if err := none.claims(func(claim) {}); !errors.Is(err, unix.EBADF) {
		t.Errorf("claims: %v", err)
	}
	if deaf, err := none.deaf(); !errors.Is(err, unix.EBADF) || !deaf {
		t.Errorf("deaf: %t, %v", deaf, err)
	}
	r := &round{sockets: []*socket{none}}
	if answers, err := r.answers(); !errors.Is(err, unix.EBADF) || answers != nil {
		t.Errorf("answers: %v, %v", answers, err)
	}
	if err := r.run(t.Context()); !errors.Is(err, unix.EBADF) {
		t.Errorf("run: %v", err)
	}
}

// A program that this process starts gets none of its sockets.
func TestSocketsAreNotHandedOn(t *testing.T) {
	s := newStretch(t)
	pod := s.pod()
	for _, socket := range begun(t, pod, asksOf(pod)).sockets {
		if flags, err := unix.FcntlInt(uintptr(socket.fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("flags %#x, %v", flags, err)
		}
	}
}

// Nothing is done until something is due or heard, and a signal is neither, nor an error.
func TestWaitingTakesAsLongAsNothingHappens(t *testing.T) {
	s := newStretch(t)
	pod := s.pod()
	r := begun(t, pod, asksOf(pod)[:1])
	later := time.Now().Add(time.Hour)
	usual := func() time.Duration { // of many, of which a busy machine makes some longer and a signal some shorter
		t.Helper()
		var list []time.Duration
		for range 21 {
			start := time.Now()
			if err := r.wait(later); err != nil {
				t.Fatal(err)
			}
			list = append(list, time.Since(start))
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	if got := usual(); got < maxPause {
		t.Errorf("in silence it waits %v", got)
	}
	if err := r.wait(time.Now().Add(-time.Hour)); err != nil {
		t.Errorf("what is due: %v", err)
	}
	flood(t, tap(t, s.station()), 10)
	nstest.Eventually(t, "frames to end the wait", func() bool { return usual() < maxPause })

	r = begun(t, pod, asksOf(pod)[:1])
	thread, waited := make(chan int), make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		var err error
		for range 20 {
			err = errors.Join(err, r.wait(later))
		}
		waited <- err
	}()
	for id := <-thread; ; {
		select {
		case err := <-waited:
			if err != nil {
				t.Errorf("interrupted: %v", err)
			}
			return
		default:
		}
		if err := unix.Tgkill(os.Getpid(), id, unix.SIGURG); err != nil { // which Go's runtime takes for nothing
			t.Fatal(err)
		}
	}
}
