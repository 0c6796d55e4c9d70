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
	report := func(now string) {
		trouble, _ := read(staleEvent(web(1), now))
		w.take(trouble, time.Now())
	}
	begun := time.Now()
	report("2")
	c, at := w.due()
	if at.After(time.Now()) {
		t.Errorf("the first Event waits until %s", at)
	}
	w.write(t.Context(), c)
	for range 100 {
		report("3")
	}
	if c, at = w.due(); at.Before(begun.Add(firstAgain)) {
		t.Errorf("repeated after %s", at.Sub(begun))
	}
	w.write(t.Context(), c)
	got := server.all()
	if len(got) != 1 || got[0].Count != 101 || !strings.Contains(got[0].Message, "02:00:00:00:00:03") || server.requests != 2 {
		t.Errorf("after %d requests: %+v", server.requests, got)
	}
	later := begun.Add(2 * time.Hour)
	trouble, _ := read(staleEvent(web(1), "4"))
	w.take(trouble, later)
	if _, at = w.due(); at.Before(begun.Add(2 * firstAgain)) {
		t.Errorf("repeated once more after %s", at.Sub(begun))
	}
	// The server forgets Events after an hour.
	server.mu.Lock()
	clear(server.events)
	server.mu.Unlock()
	w.write(t.Context(), c)
	if got := server.all(); len(got) != 1 || got[0].Count != 1 || !got[0].FirstTimestamp.Equal(stamp(later)) || !got[0].LastTimestamp.Equal(stamp(later)) {
		t.Errorf("made anew: %+v", got)
	}
	for range 102 {
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
	server := newAPIServer(t)
	server.answers(func(string) (int, string) { return http.StatusServiceUnavailable, "" })
	d := newDesk(t, server.address())
	d.Start()
	d.Report(staleEvent(web(1), "2"))
	server.answered(t)
	d.fault(t, "503")
	server.answers(nil)
	d.outcome(t, Sent)
	d.fault(t, "")
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
	// Those that were told give way.
	for _, c := range w.cases {
		w.settle(c, Sent, now)
	}
	trouble, _ := read(staleEvent(web(3*maxCases), "2"))
	w.take(trouble, now)
	if len(w.cases) != maxCases || w.cases[caseKey{trouble.pod, StaleNeighborCopy}] == nil {
		t.Errorf("%d cases, and not the new one", len(w.cases))
	}
	w.take(trouble, now.Add(2*maxAge))
	trouble.pod.name = "later"
	w.take(trouble, now.Add(4*maxAge))
	if len(w.cases) != 2 {
		t.Errorf("%d cases are remembered for ever", len(w.cases))
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
		w.write(t.Context(), c)
		d.outcome(t, Failed)
	}
}

// pauseAtLeast is the first pause after a fault less what chance takes of it (backoff's RandomizationFactor).
const pauseAtLeast = 500 * time.Millisecond
