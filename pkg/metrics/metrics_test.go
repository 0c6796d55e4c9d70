// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

// next is the reporter behind the metrics.
type next struct{ kinds []sandbox.Kind }

func (n *next) Report(event sandbox.Event) { n.kinds = append(n.kinds, event.Kind) }

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
	rec := sandbox.Record{
		Neighbors: []neighbor.Neighbor{{Family: "inet", Source: neighbor.SourcePeer}, {Family: "inet6", Source: neighbor.SourcePort}},
		Timing:    sandbox.Timing{Verdict: sandbox.InTime, MarginMs: 60, ResultToPinMs: 2},
	}
	m.Report(sandbox.Event{Kind: sandbox.KindPinned, Record: rec})
	m.Report(sandbox.Event{Kind: sandbox.KindTiming, Record: rec})
	rec.Timing = sandbox.Timing{Verdict: sandbox.Late, MarginMs: -3}
	m.Report(sandbox.Event{Kind: sandbox.KindTiming, Record: rec})
	expect(t, scrape(t, m),
		`neighpin_sandbox_starts_total{verdict="inTime"} 1`,
		`neighpin_sandbox_starts_total{verdict="late"} 1`,
		`neighpin_sandbox_starts_total{verdict="unproven"} 0`,
		`neighpin_start_margin_seconds_bucket{le="0.05"} 0`,
		`neighpin_start_margin_seconds_bucket{le="0.1"} 1`,
		`neighpin_start_margin_seconds_count 1`,
		`neighpin_capture_wait_seconds_bucket{le="0.0025"} 1`,
		`neighpin_neighbors_pinned_total{family="inet",source="peer"} 1`,
		`neighpin_neighbors_pinned_total{family="inet6",source="port"} 1`,
	)
	if len(behind.kinds) != 3 {
		t.Errorf("%d of 3 events were handed on", len(behind.kinds))
	}
}

func TestWhatHappensAfterTheStartIsCountedByKind(t *testing.T) {
	m, _ := newMetrics(State{})
	for _, kind := range []sandbox.Kind{sandbox.KindConflict, sandbox.KindRepinned, sandbox.KindRepinned, sandbox.KindStale} {
		m.Report(sandbox.Event{Kind: kind})
	}
	expect(t, scrape(t, m),
		`neighpin_events_total{kind="conflict"} 1`,
		`neighpin_events_total{kind="repinned"} 2`,
		`neighpin_events_total{kind="stale"} 1`,
		`neighpin_events_total{kind="refused"} 0`,
	)
}

func TestThePresentStateIsRead(t *testing.T) {
	m, _ := newMetrics(State{NRIConnected: true, Engine: sandbox.Status{StoreConnected: true, Sandboxes: []sandbox.Record{
		{Phase: sandbox.Started, Skipped: []neighbor.Skipped{{Reason: neighbor.ReasonNoARP}}, Stale: []sandbox.Stale{{}, {}}},
		{Phase: sandbox.Starting},
	}}})
	expect(t, scrape(t, m),
		`neighpin_nri_connected 1`, `neighpin_nri_synchronized 0`, `neighpin_store_connected 1`,
		`neighpin_sandboxes{phase="started"} 1`, `neighpin_sandboxes{phase="starting"} 1`,
		`neighpin_gateways_skipped{reason="NoARP"} 1`, `neighpin_stale_copies 2`,
	)
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

// The names and units are what Prometheus' own linter accepts.
func TestMetricsAreWellNamed(t *testing.T) {
	m, _ := newMetrics(State{})
	m.Hook("CreateContainer", time.Millisecond, nil)
	m.Report(sandbox.Event{Kind: sandbox.KindPinned, Record: sandbox.Record{Neighbors: []neighbor.Neighbor{{Family: "inet", Source: "peer"}}}})
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
