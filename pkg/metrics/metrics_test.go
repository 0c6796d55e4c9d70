// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"io"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/neighpin/neighpin/pkg/events"
	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// next is the reporter behind the metrics.
type next struct{ kinds []record.Kind }

func (n *next) Report(event record.Event) { n.kinds = append(n.kinds, event.Kind) }

func newMetrics(state State) (*Metrics, *next) {
	behind := &next{}
	return New("v1.2.3", behind, func() State { return state }), behind
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	m.Handler().ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(recorder.Body)
	if err != nil || recorder.Code != 200 {
		t.Fatalf("scrape: %d, %v\n%s", recorder.Code, err, body)
	}
	return string(body)
}

func expect(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
}

func TestASandboxInTimeIsCountedWithItsMargin(t *testing.T) {
	m, behind := newMetrics(State{})
	rec := record.Record{
		Neighbors: []neighbor.Neighbor{{Family: "inet", Source: neighbor.SourcePeer}, {Family: "inet6", Source: neighbor.SourcePort}},
		Timing:    record.Timing{Verdict: record.InTime, MarginMs: 60, ResultToPinMs: 2},
	}
	m.Report(record.Event{Kind: record.KindPinned, Record: rec})
	m.Report(record.Event{Kind: record.KindTiming, Record: rec})
	rec.Timing = record.Timing{Verdict: record.Late, MarginMs: -3}
	m.Report(record.Event{Kind: record.KindTiming, Record: rec})
	expect(t, scrape(t, m),
		`neighpin_sandbox_starts_total{source="mixed",verdict="inTime"} 1`,
		`neighpin_sandbox_starts_total{source="mixed",verdict="late"} 1`,
		`neighpin_sandbox_starts_total{source="peer",verdict="unproven"} 0`,
		`neighpin_start_margin_seconds_bucket{verdict="inTime",le="0.05"} 0`,
		`neighpin_start_margin_seconds_bucket{verdict="inTime",le="0.1"} 1`,
		`neighpin_start_margin_seconds_count{verdict="inTime"} 1`,
		`neighpin_start_margin_seconds_bucket{verdict="late",le="0.0025"} 0`,
		`neighpin_start_margin_seconds_bucket{verdict="late",le="0.005"} 1`,
		`neighpin_result_to_pin_seconds_bucket{le="0.0025"} 1`,
		`neighpin_neighbors_pinned_total{family="inet",source="peer"} 1`,
		`neighpin_neighbors_pinned_total{family="inet6",source="port"} 1`,
	)
	if len(behind.kinds) != 3 {
		t.Errorf("%d of 3 events were handed on", len(behind.kinds))
	}
}

func TestWhatHappensAfterTheStartIsCountedByKind(t *testing.T) {
	m, _ := newMetrics(State{})
	for _, kind := range []record.Kind{record.KindConflict, record.KindRepinned, record.KindRepinned, record.KindStale} {
		m.Report(record.Event{Kind: kind})
	}
	expect(t, scrape(t, m),
		`neighpin_events_total{kind="conflict"} 1`,
		`neighpin_events_total{kind="repinned"} 2`,
		`neighpin_events_total{kind="stale"} 1`,
		`neighpin_events_total{kind="refused"} 0`,
	)
}

func TestThePresentStateIsRead(t *testing.T) {
	m, _ := newMetrics(State{NRIConnected: true, StoreConnected: true, Sandboxes: slices.Values([]record.Record{
		{Phase: record.Started, Skipped: []neighbor.Skipped{{Reason: neighbor.ReasonNoARP}}, Stale: []record.Stale{{}, {}}},
		{Phase: record.Starting, Handler: "runsc"},
	})})
	expect(t, scrape(t, m),
		`neighpin_nri_connected 1`, `neighpin_nri_synchronized 0`, `neighpin_store_connected 1`,
		`neighpin_sandboxes{phase="started"} 1`, `neighpin_sandboxes{phase="starting"} 1`,
		`neighpin_gateways_skipped{reason="NoARP"} 1`, `neighpin_stale_copies 2`,
		`neighpin_host_heard 0`, `neighpin_pods_managed{handler="runsc"} 1`,
	)
	m, _ = newMetrics(State{Storeless: true})
	if strings.Contains(scrape(t, m), "neighpin_store_connected") {
		t.Error("a store that nobody configured is shown as away")
	}
}

func TestAConfigurationThatIsNotTakenShows(t *testing.T) {
	loaded := time.Date(2026, 11, 22, 6, 0, 0, 500e6, time.UTC)
	m, _ := newMetrics(State{ConfigOK: true, ConfigLoadedAt: loaded})
	expect(t, scrape(t, m), `neighpin_config_reload_success 1`, `neighpin_config_last_reload_timestamp_seconds 1.7953272005e+09`)
	m, _ = newMetrics(State{ConfigLoadedAt: loaded})
	expect(t, scrape(t, m), `neighpin_config_reload_success 0`)
}

func TestHooksAreTimed(t *testing.T) {
	m, _ := newMetrics(State{})
	m.Hook("CreateContainer", 300*time.Microsecond, nil)
	m.Hook("RunPodSandbox", time.Second, errors.New("refused"))
	expect(t, scrape(t, m),
		`neighpin_nri_hook_duration_seconds_bucket{hook="CreateContainer",result="ok",le="0.00025"} 0`,
		`neighpin_nri_hook_duration_seconds_bucket{hook="CreateContainer",result="ok",le="0.0005"} 1`,
		`neighpin_nri_hook_duration_seconds_count{hook="RunPodSandbox",result="error"} 1`,
	)
}

func TestRepairsAreCountedByTheirCause(t *testing.T) {
	m, _ := newMetrics(State{})
	m.Report(record.Event{Kind: record.KindPinned, Cause: record.CauseStart})
	m.Report(record.Event{Kind: record.KindPinned, Cause: record.CauseTakeover})
	m.Report(record.Event{Kind: record.KindRepinned, Cause: record.CauseTakeover})
	m.Report(record.Event{Kind: record.KindRepinned, Cause: record.CauseComparison})
	expect(t, scrape(t, m),
		`neighpin_repairs_total{cause="start"} 0`, `neighpin_repairs_total{cause="takeover"} 2`,
		`neighpin_repairs_total{cause="comparison"} 1`,
	)
}

func TestFindsOnTheHostAreCountedOnce(t *testing.T) {
	m, _ := newMetrics(State{})
	state := &record.HostState{Report: hoststate.Report{Finds: []hoststate.Find{{Kind: hoststate.KindNeighbor}, {Kind: hoststate.KindRule, Removed: true}}}}
	rec := record.Record{HostState: state}
	m.Report(record.Event{Kind: record.KindHostState, Record: rec, Found: state})
	m.Report(record.Event{Kind: record.KindHostState, Record: rec, Err: errors.New("the way back")})
	expect(t, scrape(t, m),
		`neighpin_host_state_finds_total{kind="neighbor",result="found"} 1`, `neighpin_host_state_finds_total{kind="neighbor",result="removed"} 0`,
		`neighpin_host_state_finds_total{kind="rule",result="removed"} 1`, `neighpin_events_total{kind="hostState"} 2`,
	)
}

func TestRegistrationsAndKubernetesEventsAreCounted(t *testing.T) {
	m, _ := newMetrics(State{})
	m.Registration(errors.New("no socket"))
	m.Registration(nil)
	m.KubernetesEvent(events.Dropped)
	expect(t, scrape(t, m),
		`neighpin_nri_registrations_total{result="error"} 1`, `neighpin_nri_registrations_total{result="ok"} 1`,
		`neighpin_kubernetes_events_total{result="dropped"} 1`, `neighpin_kubernetes_events_total{result="sent"} 0`,
	)
}

// Handlers are the node's, by its runtime's configuration; should a pod come to
// choose them after all, the number of series stays bounded.
func TestHandlersCannotMakeSeriesWithoutEnd(t *testing.T) {
	var state State
	m := New("v1.2.3", &next{}, func() State { return state })
	state.Sandboxes = slices.Values([]record.Record{{Handler: "runsc"}, {Runtime: "io.containerd.kata.v2"}, {Handler: "a\nb"}})
	expect(t, scrape(t, m), `neighpin_pods_managed{handler="kata"} 1`, `neighpin_pods_managed{handler="other"} 1`)
	var many []record.Record
	for i := range 1000 {
		many = append(many, record.Record{Handler: "h" + strconv.Itoa(i)})
	}
	state.Sandboxes = slices.Values(many)
	text := scrape(t, m)
	expect(t, text, `neighpin_pods_managed{handler="runsc"} 0`)
	if n := strings.Count(text, "\nneighpin_pods_managed{"); n != maxHandlers+1 {
		t.Errorf("%d handlers are told apart", n)
	}
}

// The names and units are what Prometheus' own linter accepts.
func TestMetricsAreWellNamed(t *testing.T) {
	m, _ := newMetrics(State{})
	m.Hook("CreateContainer", time.Millisecond, nil)
	m.Report(record.Event{Kind: record.KindPinned, Record: record.Record{Neighbors: []neighbor.Neighbor{{Family: "inet", Source: "peer"}}}})
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
