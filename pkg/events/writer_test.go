// SPDX-License-Identifier: Apache-2.0

package events

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// In these tests the writer is asked at times of the test's choosing, so that minutes need not pass.

func TestTheSameTroubleOfAPodIsOneEventThatCounts(t *testing.T) {
	server := newAPIServer(t)
	d := newDesk(t, server.address())
	w := newWriter(d.opts, prompt())
	t.Cleanup(w.client.close)
	begun := time.Now()
	report := func(now string, after time.Duration) {
		trouble, _ := read(staleEvent(web(1), now))
		w.take(trouble, begun.Add(after))
	}
	is := func(count int, now string, last time.Duration) {
		t.Helper()
		got := server.all()
		if len(got) != 1 || got[0].Count != count || !strings.Contains(got[0].Message, "02:00:00:00:00:0"+now) ||
			!got[0].FirstTimestamp.Equal(stamp(begun)) || !got[0].LastTimestamp.Equal(stamp(begun.Add(last))) {
			t.Errorf("%+v, want one Event that counts %d", got, count)
		}
	}
	report("1", 0)
	report("2", 2*time.Second)
	c, at := w.due()
	if at.After(time.Now()) {
		t.Errorf("the first Event waits until %s", at)
	}
	w.write(t.Context(), c)
	is(2, "2", 2*time.Second)
	for i := range 100 {
		report("3", 3*time.Second+time.Duration(i)*time.Millisecond)
	}
	report("3", 5*time.Second)
	if c, at = w.due(); at.Before(begun.Add(firstAgain)) {
		t.Errorf("repeated after %s", at.Sub(begun))
	}
	w.write(t.Context(), c)
	is(103, "3", 5*time.Second)
	if server.requests != 2 {
		t.Errorf("%d requests", server.requests)
	}
	later := 2 * time.Hour
	report("4", later)
	if _, at = w.due(); at.Before(begun.Add(2 * firstAgain)) {
		t.Errorf("repeated once more after %s", at.Sub(begun))
	}
	// The server forgets Events after an hour.
	server.mu.Lock()
	clear(server.events)
	server.mu.Unlock()
	w.write(t.Context(), c)
	if got := server.all(); len(got) != 1 || got[0].Count != 1 || !got[0].FirstTimestamp.Equal(stamp(begun.Add(later))) || !got[0].LastTimestamp.Equal(stamp(begun.Add(later))) {
		t.Errorf("made anew: %+v", got)
	}
	for range 104 {
		d.outcome(t, Sent)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	d := newDesk(t, Server{})
	w := newWriter(d.opts, prompt())
	now := time.Now()
	for i := range 2 * maxCases {
		trouble, _ := read(staleEvent(web(i), "2"))
		w.take(trouble, now)
	}
	if len(w.cases) != maxCases || len(d.outcomes) != maxCases {
		t.Errorf("%d cases, %d dropped", len(w.cases), len(d.outcomes))
	}
	// Those that were told give way, the oldest first.
	for _, c := range w.cases {
		w.settle(c, Sent, now)
	}
	oldest, _ := read(staleEvent(web(7), "2"))
	w.cases[caseKey{oldest.pod, StaleNeighborCopy}].last = now.Add(-time.Minute)
	trouble, _ := read(staleEvent(web(3*maxCases), "2"))
	w.take(trouble, now)
	if len(w.cases) != maxCases || w.cases[caseKey{trouble.pod, StaleNeighborCopy}] == nil || w.cases[caseKey{oldest.pod, StaleNeighborCopy}] != nil {
		t.Errorf("%d cases, and not the new one in the place of the oldest", len(w.cases))
	}
	w.take(trouble, now.Add(2*time.Hour))
	trouble.pod.name = "later"
	w.take(trouble, now.Add(4*time.Hour))
	if len(w.cases) != 2 {
		t.Errorf("%d cases are remembered for ever", len(w.cases))
	}
	// Where there is room, what was told just now is known.
	for _, c := range w.cases {
		if c.waiting > 0 {
			w.settle(c, Sent, now)
		}
	}
	known := caseKey{trouble.pod, StaleNeighborCopy}
	trouble.pod.name = "next"
	if w.take(trouble, now.Add(4*time.Hour)); len(w.cases) != 2 || w.cases[known] == nil {
		t.Errorf("%d cases: one was forgotten too early", len(w.cases))
	}
}

func TestATroubledNamespaceKeepsNoOtherWaiting(t *testing.T) {
	for _, code := range []int{http.StatusConflict, http.StatusInternalServerError} {
		server := newAPIServer(t)
		refuse := func(string) (int, string) { return code, "" }
		server.answers(refuse)
		d := newDesk(t, server.address())
		w := newWriter(d.opts, prompt())
		t.Cleanup(w.client.close)
		begun := time.Now()
		troubled, _ := read(staleEvent(web(1), "2"))
		w.take(troubled, begun)
		other := troubled
		other.pod.namespace = "bank"
		w.take(other, begun.Add(time.Millisecond))
		c, _ := w.due()
		w.write(t.Context(), c)
		next, at := w.due()
		if next.key.pod.namespace != "bank" || at.Before(begun.Add(pauseAtLeast)) {
			t.Fatalf("%d: after %s comes %s", code, at.Sub(begun), next.key.pod.namespace)
		}
		server.answers(nil)
		w.write(t.Context(), next)
		d.outcome(t, Sent)
		server.answers(refuse)
		c.due = begun.Add(-2 * patience)
		w.due() // what was tried is not given up before it is tried once more
		tried := time.Now()
		w.write(t.Context(), c)
		d.outcome(t, Failed)
		// Nor is what comes then told before the pause is over.
		other.pod.namespace = "school"
		w.take(other, tried)
		if _, at := w.due(); at.Before(tried.Add(pauseAtLeast / 2)) {
			t.Errorf("%d: asked again after %s", code, at.Sub(tried))
		}
	}
}

func TestAnEventThatCannotBeCountedUp(t *testing.T) {
	for code, want := range map[int]int{http.StatusForbidden: 1, http.StatusConflict: 2} {
		server := newAPIServer(t)
		d := newDesk(t, server.address())
		w := newWriter(d.opts, prompt())
		t.Cleanup(w.client.close)
		server.answers(func(method string) (int, string) {
			if method == http.MethodPatch {
				return code, ""
			}
			return 0, ""
		})
		trouble, _ := read(staleEvent(web(1), "2"))
		for range 3 {
			w.take(trouble, time.Now())
			for _, c := range w.cases {
				w.write(t.Context(), c)
			}
		}
		if n := len(server.all()); n != want {
			t.Errorf("%d: %d Events, want %d", code, n, want)
		}
		d.fault(t, strconv.Itoa(code))
	}
}

func TestATroubleThatIsReportedAgainIsGivenUpInItsTime(t *testing.T) {
	server := newAPIServer(t)
	server.answers(func(string) (int, string) { return http.StatusInternalServerError, "" })
	d := newDesk(t, server.address())
	w := newWriter(d.opts, prompt())
	t.Cleanup(w.client.close)
	trouble, _ := read(staleEvent(web(1), "2"))
	w.take(trouble, time.Now().Add(-2*patience))
	w.take(trouble, time.Now())
	for _, c := range w.cases {
		w.write(t.Context(), c)
	}
	d.outcome(t, Failed)
	d.outcome(t, Failed)
	d.fault(t, "500")
}

// pauseAtLeast is the first pause after a fault less what chance takes of it (backoff's RandomizationFactor).
const pauseAtLeast = 500 * time.Millisecond
