// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"regexp"
	"runtime"
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

// A moment that was not seen is no time of zero.
func TestWhatWasNotSeenIsNotMeasured(t *testing.T) {
	m, _ := newMetrics(State{})
	for _, verdict := range []record.Verdict{record.InTime, record.Late, record.Unproven, record.Nothing} {
		rec := record.Record{Timing: record.Timing{Verdict: verdict}}
		m.Report(record.Event{Kind: record.KindPinned, Record: rec})
		m.Report(record.Event{Kind: record.KindTiming, Record: rec})
	}
	text := scrape(t, m)
	expect(t, text,
		`neighpin_start_margin_seconds_count{verdict="inTime"} 0`, `neighpin_start_margin_seconds_count{verdict="late"} 0`,
		`neighpin_result_to_pin_seconds_count 0`,
		`neighpin_sandbox_starts_total{source="none",verdict="nothing"} 1`,
	)
	if strings.Contains(text, `neighpin_start_margin_seconds_count{verdict="unproven"}`) {
		t.Error("a margin of a start that has none")
	}
}

// everything makes happen what can happen to a daemon, once.
func everything(t *testing.T, m *Metrics) {
	t.Helper()
	of := [][]neighbor.Neighbor{{{Source: neighbor.SourcePeer}, {Source: neighbor.SourceHost}}, nil}
	for _, source := range []neighbor.Source{neighbor.SourcePeer, neighbor.SourcePort, neighbor.SourceHost, neighbor.SourceExisting, neighbor.SourceLearned} {
		of = append(of, []neighbor.Neighbor{{Source: source}, {Source: source}})
	}
	for _, neighbors := range of {
		for verdict, margin := range map[record.Verdict]float64{record.InTime: 60, record.Late: -3, record.Unproven: 0} {
			m.Report(record.Event{Kind: record.KindTiming, Record: record.Record{Neighbors: neighbors, Timing: record.Timing{Verdict: verdict, MarginMs: margin}}})
		}
	}
	m.Report(record.Event{Kind: record.KindTiming, Record: record.Record{Timing: record.Timing{Verdict: record.Nothing}}})
	m.Report(record.Event{Kind: record.KindPinned, Record: record.Record{Timing: record.Timing{ResultToPinMs: 2}}})
	for _, kind := range counted {
		m.Report(record.Event{Kind: kind, Cause: record.CauseEvent})
	}
	for _, cause := range record.Causes() {
		m.Report(record.Event{Kind: record.KindRepinned, Cause: cause})
	}
	for _, kind := range []string{hoststate.KindNeighbor, hoststate.KindRule} {
		finds := []hoststate.Find{{Kind: kind}, {Kind: kind, Removed: true}}
		m.Report(record.Event{Kind: record.KindHostState, Found: &record.HostState{Report: hoststate.Report{Finds: finds}}})
	}
	m.Registration(nil)
	m.Registration(errors.New("no socket"))
	for _, outcome := range events.Outcomes() {
		m.KubernetesEvent(outcome)
	}
}

// Prometheus sees no growth in a series that begins with one: whatever can be counted is zero before, and nothing is zero for ever.
func TestWhateverCanBeCountedBeginsWithZero(t *testing.T) {
	m, _ := newMetrics(State{})
	counts := func() map[string]string {
		found := make(map[string]string)
		for _, match := range regexp.MustCompile(`(?m)^(neighpin_\w+(?:_total|_count)(?:\{.*\})?) (\S+)$`).FindAllStringSubmatch(scrape(t, m), -1) {
			if !strings.HasPrefix(match[1], "neighpin_looks_total") && !strings.HasPrefix(match[1], "neighpin_host_messages_total") { // which the state has
				found[match[1]] = match[2]
			}
		}
		return found
	}
	before := counts()
	everything(t, m)
	for series, n := range counts() {
		if was, ok := before[series]; !ok || was != "0" {
			t.Errorf("%s begins with %q", series, was)
		}
		if n == "0" {
			t.Errorf("%s is zero for ever", series)
		}
	}
}

func TestADaemonSaysWhatItIs(t *testing.T) {
	m, _ := newMetrics(State{})
	text := scrape(t, m)
	expect(t, text, fmt.Sprintf(`neighpin_build_info{goversion=%q,version="v1.2.3"} 1`, runtime.Version()))
	for _, of := range []string{"\ngo_goroutines ", "\nprocess_open_fds "} {
		if !strings.Contains(text, of) {
			t.Errorf("no %q", of)
		}
	}
}

func TestWhatHappensAfterTheStartIsCountedByKind(t *testing.T) {
	m, _ := newMetrics(State{})
	for _, kind := range []record.Kind{record.KindConflict, record.KindFailed, record.KindFailed, record.KindStale} {
		m.Report(record.Event{Kind: kind})
	}
	expect(t, scrape(t, m),
		`neighpin_events_total{kind="conflict"} 1`,
		`neighpin_events_total{kind="failed"} 2`,
		`neighpin_events_total{kind="stale"} 1`,
		`neighpin_events_total{kind="refused"} 0`,
	)
}

func TestThePresentStateIsRead(t *testing.T) {
	m, _ := newMetrics(State{NRIConnected: true, StoreConnected: true, Sandboxes: slices.Values([]record.Record{
		{Phase: record.Started, Handler: "kata", Skipped: []neighbor.Skipped{{Reason: neighbor.ReasonNoARP}}, Stale: []record.Stale{{}, {}, {}}},
		{Phase: record.Starting, Handler: "runsc"},
	})})
	expect(t, scrape(t, m),
		`neighpin_nri_connected 1`, `neighpin_nri_synchronized 0`, `neighpin_store_connected 1`,
		`neighpin_sandboxes{handler="kata",phase="started"} 1`, `neighpin_sandboxes{handler="kata",phase="starting"} 0`,
		`neighpin_sandboxes{handler="runsc",phase="started"} 0`, `neighpin_sandboxes{handler="runsc",phase="starting"} 1`,
		`neighpin_gateways_skipped{reason="NoARP"} 1`, `neighpin_stale_copies 3`,
		`neighpin_host_heard 0`,
	)
	m, _ = newMetrics(State{NRISynchronized: true, HostHeard: true, HostMessages: 12345, Looks: map[record.Cause]uint64{record.CauseEvent: 7, record.CauseTakeover: 3},
		Sandboxes: slices.Values([]record.Record{{Skipped: []neighbor.Skipped{{Reason: neighbor.ReasonNoARP}, {Reason: neighbor.ReasonNoARP}}}}),
	})
	text := scrape(t, m)
	expect(t, text,
		`neighpin_nri_connected 0`, `neighpin_nri_synchronized 1`, `neighpin_store_connected 0`, `neighpin_host_heard 1`, `neighpin_host_messages_total 12345`,
		`neighpin_looks_total{cause="event"} 7`, `neighpin_looks_total{cause="takeover"} 3`, `neighpin_looks_total{cause="comparison"} 0`,
		`neighpin_sandboxes{handler="other",phase="started"} 0`, `neighpin_sandboxes{handler="other",phase="starting"} 1`, `neighpin_gateways_skipped{reason="NoARP"} 2`,
	)
	if strings.Contains(text, `neighpin_looks_total{cause="start"}`) || strings.Contains(text, "neighpin_config_last_reload_timestamp_seconds ") {
		t.Error("what there is not is shown")
	}
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
	m.Hook("StopPodSandbox", 1900*time.Millisecond, nil) // just before NRI drops a plugin
	expect(t, scrape(t, m),
		`neighpin_nri_hook_duration_seconds_bucket{hook="CreateContainer",result="ok",le="0.00025"} 0`,
		`neighpin_nri_hook_duration_seconds_bucket{hook="CreateContainer",result="ok",le="0.0005"} 1`,
		`neighpin_nri_hook_duration_seconds_count{hook="RunPodSandbox",result="error"} 1`,
		`neighpin_nri_hook_duration_seconds_bucket{hook="StopPodSandbox",result="ok",le="1.5"} 0`,
		`neighpin_nri_hook_duration_seconds_bucket{hook="StopPodSandbox",result="ok",le="2"} 1`,
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
	state.Sandboxes = slices.Values([]record.Record{{Handler: "runsc"}, {Runtime: "io.containerd.kata.v2"}, {Handler: "a\nb"}, {Phase: record.Started}})
	expect(t, scrape(t, m), `neighpin_sandboxes{handler="kata",phase="starting"} 1`,
		`neighpin_sandboxes{handler="other",phase="started"} 1`, `neighpin_sandboxes{handler="other",phase="starting"} 1`)
	var many []record.Record
	for i := range 1000 {
		many = append(many, record.Record{Handler: "h" + strconv.Itoa(i)})
	}
	state.Sandboxes = slices.Values(many)
	text := scrape(t, m)
	expect(t, text, `neighpin_sandboxes{handler="runsc",phase="starting"} 0`)
	if n := strings.Count(text, "\nneighpin_sandboxes{"); n != 2*(maxHandlers+1) {
		t.Errorf("%d series, of two for each handler that is told apart", n)
	}
}

// What the wrapper finds in a bundle may be anything: only what can be a handler's name is told apart.
func TestWhatIsNoHandlersNameIsOther(t *testing.T) {
	longest := strings.Repeat("a", 63)
	var state State
	m := New("v1.2.3", &next{}, func() State { return state })
	for _, handler := range []string{"", "-runsc", "runsc-", ".", "run sc", "runsc\n", longest + "a", "other"} {
		state.Sandboxes = slices.Values([]record.Record{{Handler: handler}})
		if text := scrape(t, m); strings.Count(text, "\nneighpin_sandboxes{") != 2 || !strings.Contains(text, `neighpin_sandboxes{handler="other",phase="starting"} 1`) {
			t.Errorf("%q is a handler's name", handler)
		}
	}
	// Nor has one of them taken the place of a name.
	good := []record.Record{{Handler: longest}, {Handler: "a"}, {Handler: "Kata_qemu.2-x"}}
	for i := len(good); i < maxHandlers; i++ {
		good = append(good, record.Record{Handler: "h" + strconv.Itoa(i)})
	}
	state.Sandboxes = slices.Values(good)
	text := scrape(t, m)
	for _, rec := range good {
		expect(t, text, fmt.Sprintf(`neighpin_sandboxes{handler=%q,phase="starting"} 1`, rec.Handler))
	}
}

// Two scrape at once, and meet the same handlers for the first time.
func TestHandlersThatTwoScrapesMeetAreToldApartByBoth(t *testing.T) {
	var all []record.Record
	for i := range maxHandlers {
		all = append(all, record.Record{Handler: "h" + strconv.Itoa(i)})
	}
	var m *Metrics
	meeting := false
	m = New("v1.2.3", &next{}, func() State {
		return State{Sandboxes: func(yield func(record.Record) bool) {
			if !meeting {
				meeting = true
				_ = scrape(t, m)
			}
			slices.Values(all)(yield)
		}}
	})
	text := scrape(t, m)
	expect(t, text, `neighpin_sandboxes{handler="h15",phase="starting"} 1`)
	if strings.Contains(text, `neighpin_sandboxes{handler="other"`) {
		t.Error("the later one knows no names")
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
