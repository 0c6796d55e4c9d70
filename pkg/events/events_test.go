// SPDX-License-Identifier: Apache-2.0

package events

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

func web(number int) record.Record {
	return record.Record{ID: "s", Namespace: "shop", Name: "web-" + strconv.Itoa(number), UID: "uid-" + strconv.Itoa(number)}
}

func staleEvent(rec record.Record, now string) record.Event {
	return record.Event{Kind: record.KindStale, Record: rec, Changes: []record.Change{{
		Dst: netip.MustParseAddr("10.1.0.1"), Dev: "eth0", Was: "02:00:00:00:00:01", Now: neighbor.HardwareAddr("02:00:00:00:00:0" + now),
	}}}
}

func TestAStaleCopyIsAnEventOnThePod(t *testing.T) {
	server := newAPIServer(t)
	d := newDesk(t, server.address())
	d.Start()
	d.Report(record.Event{Kind: record.KindRepinned, Record: web(1)}) // is no trouble
	d.Report(staleEvent(web(1), "2"))
	d.outcome(t, Sent)
	if len(d.passed) != 2 {
		t.Error("the events were not handed on")
	}
	want := []object{{
		APIVersion: "v1", Kind: "Event", Metadata: metadata{Namespace: "shop"},
		InvolvedObject: reference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "web-1", UID: "uid-1"},
		Reason:         StaleNeighborCopy, Type: "Warning", Count: 1,
		Message:            "gateway 10.1.0.1 on eth0: the runtime copied the address 02:00:00:00:00:01, and it is 02:00:00:00:00:02 now. Nothing reaches the copy: delete the pod, so that a new one starts with the true address",
		Source:             source{Component: "neighpin", Host: "node-1"},
		ReportingComponent: "neighpin", ReportingInstance: "node-1",
	}}
	got := server.all()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(metadata{}, "Name"), cmpopts.IgnoreTypes(time.Time{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(got[0].Metadata.Name, "web-1.") || time.Since(got[0].FirstTimestamp) > time.Minute {
		t.Errorf("name %s, first at %s", got[0].Metadata.Name, got[0].FirstTimestamp)
	}
}

// The writer is asked at times of the test's choosing, so that minutes need not pass.
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

// The engine begins before the recorder does: what a node full of pods has to tell by then waits, and no more than that.
func TestWhatIsReportedBeforeTheStartWaits(t *testing.T) {
	server := newAPIServer(t)
	d := newDesk(t, server.address())
	const pods, troubles = 110, 2
	for i := range pods * troubles {
		d.Report(staleEvent(web(i), "2"))
	}
	if len(d.outcomes) != 0 {
		t.Errorf("%s before there was too much", <-d.outcomes)
	}
	d.Start()
	for range pods * troubles {
		d.outcome(t, Sent)
	}
	d.Close()
	for i := range 10 * pods * troubles {
		d.Report(staleEvent(web(i), "2"))
	}
	d.outcome(t, Dropped)
}

func TestARecorderThatWasNeverStartedCanBeClosed(t *testing.T) {
	d := newDesk(t, Server{})
	d.Report(staleEvent(web(1), "2"))
	d.Close()
}

// Who closes the recorder may take away what it tells.
func TestNothingIsToldWhenTheRecorderIsClosed(t *testing.T) {
	d := newDesk(t, newAPIServer(t).address())
	telling, goOn := make(chan struct{}), make(chan struct{})
	var told atomic.Bool
	d.opts.Count = func(Outcome) {
		close(telling)
		<-goOn
		told.Store(true)
	}
	d.Start()
	d.Report(staleEvent(web(1), "2"))
	<-telling
	time.AfterFunc(20*time.Millisecond, func() { close(goOn) })
	d.Close()
	if !told.Load() {
		t.Error("closed, and still telling")
	}
}

func TestTheTokenIsReadAgain(t *testing.T) {
	server := newAPIServer(t)
	d := newDesk(t, server.address())
	d.Start()
	d.Report(staleEvent(web(1), "2"))
	d.outcome(t, Sent)
	server.mu.Lock()
	server.token = "second"
	server.mu.Unlock()
	server.writeToken("second")
	d.Report(staleEvent(web(2), "2"))
	d.outcome(t, Sent)
	if len(d.faults) != 0 {
		t.Errorf("fault: %v", <-d.faults)
	}
}

func TestWhatIsMissingIsSaidOnce(t *testing.T) {
	server := newAPIServer(t)
	d := newDesk(t, server.address())
	d.Start()
	server.answers(func(string) (int, string) { return http.StatusForbidden, "" })
	for i := range 3 {
		d.Report(staleEvent(web(i), "2"))
		d.outcome(t, Failed)
	}
	d.fault(t, "needs create and patch for events")
	server.answers(nil)
	d.Report(staleEvent(web(4), "2"))
	d.outcome(t, Sent)
	d.fault(t, "")
	if len(d.faults) != 0 {
		t.Errorf("said again: %v", <-d.faults)
	}
}

func TestWithoutATokenNothingIsAsked(t *testing.T) {
	server := newAPIServer(t)
	address := server.address()
	address.TokenFile += ".none"
	d := newDesk(t, address)
	d.Start()
	d.Report(staleEvent(web(1), "2"))
	d.fault(t, "automountServiceAccountToken")
	if server.requests != 0 {
		t.Error("asked without a token")
	}
}

func TestAServerThatIsAwayIsAskedAgain(t *testing.T) {
	for _, code := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusConflict} {
		server := newAPIServer(t)
		server.answers(func(method string) (int, string) {
			if method != http.MethodPost {
				t.Errorf("%s of an Event that was never made", method)
			}
			return code, ""
		})
		d := newDesk(t, server.address())
		d.pacing.retry = 20 * time.Millisecond
		d.Start()
		d.Report(staleEvent(web(1), "2"))
		server.answered(t)
		server.answered(t)
		d.fault(t, strconv.Itoa(code))
		server.answers(nil)
		d.outcome(t, Sent)
		d.fault(t, "")
	}
}

func TestANamespaceThatEndsIsNoFault(t *testing.T) {
	server := newAPIServer(t)
	d := newDesk(t, server.address())
	d.Start()
	server.answers(func(string) (int, string) { return http.StatusForbidden, "NamespaceTerminating" })
	d.Report(staleEvent(web(1), "2"))
	d.outcome(t, Obsolete)
	server.answers(func(string) (int, string) { return http.StatusNotFound, "" })
	d.Report(staleEvent(web(2), "2"))
	d.outcome(t, Obsolete)
	if len(d.faults) != 0 {
		t.Errorf("fault: %v", <-d.faults)
	}
	// It is an answer, too: a fault from before is over.
	server.answers(func(string) (int, string) { return http.StatusForbidden, "" })
	d.Report(staleEvent(web(3), "2"))
	d.outcome(t, Failed)
	d.fault(t, "403")
	server.answers(func(string) (int, string) { return http.StatusNotFound, "" })
	d.Report(staleEvent(web(4), "2"))
	d.outcome(t, Obsolete)
	d.fault(t, "")
}

// Nobody waits for the API server: the engine reports from the way of its work.
func TestAServerThatHangsHoldsNobodyUp(t *testing.T) {
	server := newAPIServer(t)
	release := make(chan struct{})
	server.answers(func(string) (int, string) { <-release; return 0, "" })
	d := newDesk(t, server.address())
	d.Start()
	begun := time.Now()
	for i := range 2 * maxCases {
		d.Report(staleEvent(web(i), "2"))
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("%d reports took %s", 2*maxCases, took)
	}
	d.outcome(t, Dropped)
	if n := len(d.passed); n != 2*maxCases {
		t.Errorf("%d of %d events were handed on", n, 2*maxCases)
	}
	closed := make(chan struct{})
	go func() { d.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Error("Close waits for the API server")
	}
	close(release)
	if len(d.faults) != 0 {
		t.Errorf("the end is a fault: %v", <-d.faults)
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

// What one namespace's quota or webhook makes of its Events for ever keeps no other waiting, and is given up at last.
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
		w.write(t.Context(), c)
		d.outcome(t, Failed)
		// Nor is what comes then told before the pause is over.
		now := time.Now()
		other.pod.namespace = "school"
		w.take(other, now)
		if _, at := w.due(); at.Before(now.Add(pauseAtLeast / 2)) {
			t.Errorf("%d: asked again after %s", code, at.Sub(now))
		}
	}
}

// Where counting up is refused it is not tried by another Event, unless that may be somebody else's.
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

// A trouble that goes on is no new one: it waits since it was first reported.
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
