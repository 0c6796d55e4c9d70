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
	if took := time.Since(begun); took >= requestTimeout {
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
	case <-time.After(requestTimeout / 2):
		t.Error("Close waits for the API server")
	}
	close(release)
	if len(d.faults) != 0 {
		t.Errorf("the end is a fault: %v", <-d.faults)
	}
}

// What one namespace's quota or webhook makes of its Events for ever keeps no other waiting, and is given up at last.
// Where counting up is refused it is not tried by another Event, unless that may be somebody else's.
// A trouble that goes on is no new one: it waits since it was first reported.
