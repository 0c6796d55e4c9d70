// SPDX-License-Identifier: Apache-2.0

// Package metrics turns what the engine reports into Prometheus metrics, in a
// registry of its own. No label names a pod, an address or a link: the number of
// series does not grow with what runs on a node.
package metrics

import (
	"iter"
	"math"
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/neighpin/neighpin/pkg/events"
	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

const namespace = "neighpin"

// State is what is read at each scrape.
type State struct {
	// NRIConnected and NRISynchronized tell how far the connection to NRI is.
	NRIConnected, NRISynchronized bool
	// StoreConnected tells that containerd's sandbox store answered last time, and
	// HostHeard that changes of the host's links are heard.
	StoreConnected, HostHeard bool
	// HostMessages is how many of the kernel's messages about the host and its
	// namespaces were read, and Looks how often a sandbox that has started was looked
	// at, by what led to that.
	HostMessages uint64
	Looks        map[record.Cause]uint64
	// Sandboxes goes through the records of those that are known; nil for none.
	Sandboxes iter.Seq[record.Record]
	// Observed is what all sandboxes together asked for; nil where that is not
	// observed.
	Observed *record.Observed
	// Storeless tells that no sandbox store is configured, so that none can be away.
	Storeless bool
	// ConfigOK tells that the configuration that was read last is the one in force;
	// it is not while one that cannot be meant waits to be corrected.
	ConfigOK bool
	// ConfigLoadedAt is when the configuration in force was read.
	ConfigLoadedAt time.Time
}

// Metrics counts the engine's events and shows its state. It is safe for
// concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	next     record.Reporter

	starts           *prometheus.CounterVec
	margin           *prometheus.HistogramVec
	resultToPin      prometheus.Histogram
	pinned           *prometheus.CounterVec
	repairs          *prometheus.CounterVec
	hostState        *prometheus.CounterVec
	events           *prometheus.CounterVec
	registrations    *prometheus.CounterVec
	hooks            *prometheus.HistogramVec
	kubernetesEvents *prometheus.CounterVec
}

var _ record.Reporter = (*Metrics)(nil)

// New makes the metrics of one daemon. What is reported to it goes on to next;
// state is asked at each scrape.
func New(version string, next record.Reporter, state func() State) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		next:     next,
		starts: counter("sandbox_starts_total", "Selected sandboxes whose start is decided, by the proof of time (inTime, late, unproven, nothing) "+
			"and by where the gateways' addresses come from.", "verdict", "source"),
		margin: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: "start_margin_seconds",
			Help:    "Time between the kernel's acknowledgement of the last pin and the moment that counts: by how much a sandbox was in time, or late.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}, []string{"verdict"}),
		resultToPin: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: "result_to_pin_seconds",
			Help:    "Upper bound of the time from CNI's result to the acknowledged pins.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2}}),
		pinned: counter("neighbors_pinned_total", "Gateways pinned when sandboxes started, by table and by where the address comes from.", "family", "source"),
		repairs: counter("repairs_total", "Looks at sandboxes that found pins lost, changed or untrue and wrote them again, by what led to the look: "+
			"the sandbox's start, an event, lost events, the slow comparison, or the takeover after a time without neighpin.", "cause"),
		hostState:        counter("host_state_finds_total", "What others had left on the host for the addresses of starting sandboxes, and what became of it.", "kind", "result"),
		events:           counter("events_total", "What happened to sandboxes: pins taken back (withdrawn), copies that went stale, and so on.", "kind"),
		registrations:    counter("nri_registrations_total", "Tries to register with NRI: ok where it led to a connection that is synchronized.", "result"),
		kubernetesEvents: counter("kubernetes_events_total", "Troubles of pods that were to be told as Kubernetes Events, by what became of that.", "result"),
		hooks: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: "nri_hook_duration_seconds",
			Help:    "Duration of NRI's events in neighpin. NRI drops a plugin that takes longer than its request timeout, 2 s by default.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 1.5, 2, 5}}, []string{"hook", "result"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info",
		Help:        "Always 1; the version is in the labels.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()}})
	build.Set(1)
	m.registry.MustRegister(m.starts, m.margin, m.resultToPin, m.pinned, m.repairs, m.hostState, m.events, m.registrations, m.hooks, m.kubernetesEvents, build,
		newStateCollector(state), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.begin()
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

// begin makes every series there can be: zero is an answer, too, and what grows
// from nothing to one is no growth to Prometheus.
func (m *Metrics) begin() {
	for _, kind := range counted {
		m.events.WithLabelValues(string(kind))
	}
	for _, source := range sources {
		for _, verdict := range []record.Verdict{record.InTime, record.Late, record.Unproven} {
			m.starts.WithLabelValues(string(verdict), source)
		}
	}
	m.starts.WithLabelValues(string(record.Nothing), sourceNone)
	for _, verdict := range []record.Verdict{record.InTime, record.Late} {
		m.margin.WithLabelValues(string(verdict))
	}
	for _, cause := range record.Causes() {
		m.repairs.WithLabelValues(string(cause))
	}
	for _, kind := range []string{hoststate.KindNeighbor, hoststate.KindRule} {
		for _, result := range []string{resultFound, resultRemoved} {
			m.hostState.WithLabelValues(kind, result)
		}
	}
	for _, result := range []string{resultOK, resultError} {
		m.registrations.WithLabelValues(result)
	}
	for _, outcome := range events.Outcomes() {
		m.kubernetesEvents.WithLabelValues(string(outcome))
	}
}

// The values of label result.
const (
	resultOK      = "ok"
	resultError   = "error"
	resultFound   = "found"
	resultRemoved = "removed"
)

// counted are the kinds of events that are worth a count. What was written again is
// counted by its cause.
var counted = []record.Kind{
	record.KindFailed, record.KindStale, record.KindFresh, record.KindWithdrawn,
	record.KindInsists, record.KindConflict, record.KindSilent, record.KindRefused, record.KindHostState, record.KindRecord, record.KindUnidentified,
	record.KindUnobserved,
}

// Report counts one event and hands it on.
func (m *Metrics) Report(event record.Event) {
	defer m.next.Report(event)
	switch event.Kind {
	case record.KindTiming:
		m.started(event.Record)
	case record.KindPinned:
		m.capture(event.Record)
		if event.Cause == record.CauseTakeover {
			m.repair(event.Cause)
		}
	case record.KindRepinned:
		m.repair(event.Cause)
	case record.KindHostState:
		m.found(event.Found)
	}
	if slices.Contains(counted, event.Kind) {
		m.events.WithLabelValues(string(event.Kind)).Inc()
	}
}

// started counts a start that is decided.
func (m *Metrics) started(rec record.Record) {
	timing := rec.Timing
	m.starts.WithLabelValues(string(timing.Verdict), source(rec)).Inc()
	if timing.MarginMs != 0 { // else one of the two moments was not seen
		m.margin.WithLabelValues(string(timing.Verdict)).Observe(math.Abs(timing.MarginMs) / 1000)
	}
}

// repair counts pins that were written again.
func (m *Metrics) repair(cause record.Cause) {
	m.repairs.WithLabelValues(string(cause)).Inc()
}

// The values of label source that are not of one gateway.
const (
	sourceNone  = "none"
	sourceMixed = "mixed"
)

var sources = []string{
	string(neighbor.SourcePeer), string(neighbor.SourcePort), string(neighbor.SourceHost), string(neighbor.SourceExisting),
	string(neighbor.SourceLearned), sourceMixed, sourceNone,
}

// source is where the addresses of a sandbox's gateways come from.
func source(rec record.Record) string {
	of := sourceNone
	for _, n := range rec.Neighbors {
		switch {
		case of == sourceNone:
			of = string(n.Source)
		case of != string(n.Source):
			return sourceMixed
		}
	}
	return of
}

// found counts what was left on the host.
func (m *Metrics) found(state *record.HostState) {
	if state == nil {
		return
	}
	for _, find := range state.Finds {
		result := resultFound
		if find.Removed {
			result = resultRemoved
		}
		m.hostState.WithLabelValues(find.Kind, result).Inc()
	}
}

func (m *Metrics) capture(rec record.Record) {
	for _, n := range rec.Neighbors {
		m.pinned.WithLabelValues(n.Family, string(n.Source)).Inc()
	}
	if rec.Timing.ResultToPinMs > 0 {
		m.resultToPin.Observe(rec.Timing.ResultToPinMs / 1000)
	}
}

// Hook observes one NRI event that was handled.
func (m *Metrics) Hook(name string, took time.Duration, err error) {
	m.hooks.WithLabelValues(name, result(err)).Observe(took.Seconds())
}

// Registration counts one try to register with NRI.
func (m *Metrics) Registration(err error) {
	m.registrations.WithLabelValues(result(err)).Inc()
}

func result(err error) string {
	if err != nil {
		return resultError
	}
	return resultOK
}

// KubernetesEvent counts what became of a trouble that was to be told.
func (m *Metrics) KubernetesEvent(outcome events.Outcome) {
	m.kubernetesEvents.WithLabelValues(string(outcome)).Inc()
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
