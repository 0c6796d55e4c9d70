// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

func TestQuestionsThatNobodyAnswersBecomeRarer(t *testing.T) {
	s := newStretch(t)
	pod := s.pod()
	asked := make(chan struct{}, 100)
	react(t, s.station(), func(int, []byte) [][]byte { asked <- struct{}{}; return nil })
	r, err := newRound(pod.NS, asksOf(pod), Options{Timeout: 140 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	start := r.inquiries[0].next
	var at []int64 // milliseconds
	for now := start; !now.IsZero(); {
		at = append(at, now.Sub(start).Milliseconds())
		wake, err := r.advance(now)
		if err != nil {
			t.Fatal(err)
		}
		// Whatever else wakes it in between, nothing is asked then.
		if again, err := r.advance(now.Add(1)); err != nil || again != wake {
			t.Errorf("once more: %v, %v", again.Sub(start), err)
		}
		now = wake
	}
	if want := []int64{0, 10, 30, 70, 140}; !slices.Equal(at, want) {
		t.Errorf("woken at %v ms, want %v", at, want)
	}
	const questions = 4 // at each but the end
	if a, b := r.inquiries[0].questions, r.inquiries[1].questions; a != questions || b != questions {
		t.Errorf("asked %d and %d times", a, b)
	}
	for range 2 * questions {
		select {
		case <-asked:
		case <-time.After(patient.Timeout):
			t.Fatal("a question is on no wire")
		}
	}
}

// One that is answered is put again an interval later, however rare it has become; that
// brings the next question forward, and never back.
func TestAnAnswerBringsTheNextQuestionForward(t *testing.T) {
	start := time.Now()
	own := netip.MustParseAddr("10.0.0.2")
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for _, c := range []struct{ next, answered, want int }{
		{next: 80, answered: 5, want: 15},
		{next: 10, answered: 5, want: 10},
	} {
		q := &inquiry{asker: own, questions: 1, interval: defaultInterval, pause: 8 * defaultInterval, next: at(c.next), end: at(1000)}
		q.hear(claim{lladdr: routerMAC, asker: own}, at(c.answered))
		if q.next != at(c.want) || q.pause != defaultInterval || q.wake() != q.next {
			t.Errorf("answered after %d ms: next after %v, then each %v, want %d ms", c.answered, q.next.Sub(start), q.pause, c.want)
		}
		// An announcement is no sign that anybody hears us.
		q.pause, q.next = 8*defaultInterval, at(80)
		q.hear(claim{lladdr: routerMAC}, at(20))
		if q.next != at(80) || q.pause != 8*defaultInterval || q.complete {
			t.Errorf("after an announcement: %+v", q)
		}
		// Of two that disagree nobody asks further: they will not come to agree.
		q.hear(claim{lladdr: spoofMAC}, at(30))
		if !q.complete || q.end != at(30).Add(quiet) {
			t.Errorf("after another claim: %+v", q)
		}
	}
}

// What is due first decides when to look again, whoever's it is.
func TestTheNextQuestionOfAnyIsWaitedFor(t *testing.T) {
	s := newStretch(t)
	pod := s.pod()
	r, err := newRound(pod.NS, asksOf(pod), patient)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for i, j := range []int{1, 0} {
		now := r.inquiries[i].next
		r.inquiries[i].next, r.inquiries[j].next = now.Add(7*time.Millisecond), now.Add(3*time.Millisecond)
		if wake, err := r.advance(now); err != nil || wake != now.Add(3*time.Millisecond) {
			t.Errorf("woken after %v, %v", wake.Sub(now), err)
		}
		r.inquiries[i].next, r.inquiries[j].next = now, now
	}
}

func TestTimesThatAreLeftOpenAreThoseOfTheDocumentation(t *testing.T) {
	s := newStretch(t)
	pod := s.pod()
	for _, o := range []Options{{}, {Interval: -1, Timeout: -1}} {
		r, err := newRound(pod.NS, asksOf(pod), o)
		if err != nil {
			t.Fatal(err)
		}
		r.close()
		for _, q := range r.inquiries {
			if q.interval != 10*time.Millisecond || q.pause != q.interval || q.end != q.next.Add(time.Second) {
				t.Errorf("%+v: %+v", o, q)
			}
		}
	}
}

// After the second answer nothing more is asked, but there is a quiet time in
// which another claim still counts.
func TestAClaimAfterTheAnswersCounts(t *testing.T) {
	start := time.Now()
	own := netip.MustParseAddr("10.0.0.2")
	q := &inquiry{asker: own, interval: defaultInterval, pause: defaultInterval, end: start.Add(defaultTimeout)}
	for i := range enoughAnswers {
		q.questions++
		q.hear(claim{lladdr: routerMAC, asker: own}, start.Add(time.Duration(i)*defaultInterval))
	}
	complete := start.Add(defaultInterval)
	if !q.agreed() || !q.complete || q.end != complete.Add(quiet) || q.wake() != q.end {
		t.Errorf("%+v", q)
	}
	if err := q.put(complete.Add(quiet - 1)); err != nil || q.questions != enoughAnswers {
		t.Errorf("asked again: %v, %+v", err, q)
	}
	q.hear(claim{lladdr: spoofMAC}, complete.Add(quiet-1))
	if q.agreed() || q.end != complete.Add(quiet) {
		t.Errorf("after another claim: %+v", q)
	}
	for i := range 100 {
		q.hear(claim{lladdr: neighbor.HardwareAddr(fmt.Sprintf("02:00:00:00:0c:%02x", i))}, complete)
	}
	if len(q.claimants) != 8 { // as documented
		t.Errorf("%d claimants are remembered", len(q.claimants))
	}
}
