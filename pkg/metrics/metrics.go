// SPDX-License-Identifier: Apache-2.0

// Package metrics turns what the engine reports into Prometheus metrics, in a
// registry of its own. No label names a pod, an address or a link: the number of
// series does not grow with what runs on a node.
package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

const namespace = "neighpin"

// State is what is read at each scrape.
type State struct {
	// NRIConnected and NRISynchronized tell how far the connection to NRI is.
	NRIConnected, NRISynchronized bool
	// Engine is the engine's status.
	Engine sandbox.Status
	// Observed is what all sandboxes together asked for; nil where that is not
	// observed.
	Observed *sandbox.Observed
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
	next     sandbox.Reporter

	starts      *prometheus.CounterVec
	margin      prometheus.Histogram
	resultToPin prometheus.Histogram
	pinned      *prometheus.CounterVec
	events      *prometheus.CounterVec
	hooks       *prometheus.HistogramVec
}

var _ sandbox.Reporter = (*Metrics)(nil)

// New makes the metrics of one daemon. What is reported to it goes on to next;
// state is asked at each scrape.
func New(version string, next sandbox.Reporter, state func() State) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		next:     next,
		starts: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "sandbox_starts_total",
			Help: "Selected sandboxes whose start is decided, by the proof of time: inTime, late, unproven, nothing."}, []string{"verdict"}),
		margin: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: "start_margin_seconds",
			Help:    "Time from the kernel's acknowledgement of the last pin to the moment that counts, of sandboxes that were in time.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
		resultToPin: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: "capture_wait_seconds",
			Help:    "Upper bound of the time from CNI's result to the acknowledged pins.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2}}),
		pinned: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "neighbors_pinned_total",
			Help: "Gateways captured when sandboxes started, by table and by where the address comes from."}, []string{"family", "source"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "events_total",
			Help: "What happened to sandboxes: pins written again (repinned), taken back (withdrawn), copies that went stale, and so on."}, []string{"kind"}),
		hooks: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: "nri_hook_duration_seconds",
			Help:    "Duration of NRI's events in neighpin. NRI drops a plugin that takes longer than its request timeout, 2 s by default.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 1.5, 2, 5}}, []string{"hook", "result"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info",
		Help:        "Always 1; the version is in the labels.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()}})
	build.Set(1)
	m.registry.MustRegister(m.starts, m.margin, m.resultToPin, m.pinned, m.events, m.hooks, build,
		newStateCollector(state), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, kind := range counted {
		m.events.WithLabelValues(string(kind)) // zero is an answer, too
	}
	for _, verdict := range []sandbox.Verdict{sandbox.InTime, sandbox.Late, sandbox.Unproven, sandbox.Nothing} {
		m.starts.WithLabelValues(string(verdict))
	}
	return m
}

// counted are the kinds of events that are worth a count.
var counted = []sandbox.Kind{
	sandbox.KindRepinned, sandbox.KindFailed, sandbox.KindStale, sandbox.KindFresh, sandbox.KindWithdrawn,
	sandbox.KindInsists, sandbox.KindConflict, sandbox.KindSilent, sandbox.KindRefused, sandbox.KindHostState, sandbox.KindState, sandbox.KindUnidentified,
	sandbox.KindUnobserved,
}

// Report counts one event and hands it on.
func (m *Metrics) Report(event sandbox.Event) {
	defer m.next.Report(event)
	switch event.Kind {
	case sandbox.KindTiming:
		timing := event.Record.Timing
		m.starts.WithLabelValues(string(timing.Verdict)).Inc()
		if timing.Verdict == sandbox.InTime {
			m.margin.Observe(timing.MarginMs / 1000)
		}
	case sandbox.KindPinned:
		m.capture(event.Record)
	default:
		for _, kind := range counted {
			if event.Kind == kind {
				m.events.WithLabelValues(string(kind)).Inc()
			}
		}
	}
}

func (m *Metrics) capture(rec sandbox.Record) {
	for _, n := range rec.Neighbors {
		m.pinned.WithLabelValues(n.Family, string(n.Source)).Inc()
	}
	if rec.Timing.ResultToPinMs > 0 {
		m.resultToPin.Observe(rec.Timing.ResultToPinMs / 1000)
	}
}

// Hook observes one NRI event that was handled.
func (m *Metrics) Hook(name string, took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.hooks.WithLabelValues(name, result).Observe(took.Seconds())
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// stateCollector shows the present state, asked at each scrape.
type stateCollector struct {
	state        func() State
	connected    *prometheus.Desc
	synchronized *prometheus.Desc
	store        *prometheus.Desc
	sandboxes    *prometheus.Desc
	skipped      *prometheus.Desc
	stale        *prometheus.Desc
	observed     *prometheus.Desc
	configOK     *prometheus.Desc
	configLoaded *prometheus.Desc
}

func newStateCollector(state func() State) *stateCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &stateCollector{
		state:        state,
		connected:    desc("nri_connected", "1 while connected to NRI."),
		synchronized: desc("nri_synchronized", "1 while connected to NRI and synchronized."),
		store:        desc("store_connected", "1 while containerd's sandbox store answers; without it there is no early path."),
		sandboxes:    desc("sandboxes", "Selected sandboxes that are known, by phase.", "phase"),
		skipped:      desc("gateways_skipped", "Gateways that are not pinned now, by reason.", "reason"),
		stale:        desc("stale_copies", "Gateways whose address changed after a runtime had copied it, which only a new pod mends."),
		observed:     desc("observed_solicitations_total", "ARP requests and neighbor solicitations of observed sandboxes, for pinned gateways or for others.", "target"),
		configOK:     desc("config_reload_success", "1 while the configuration that was read last is the one in force, 0 while it could not be taken."),
		configLoaded: desc("config_last_reload_timestamp_seconds", "When the configuration in force was read."),
	}
}

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{c.connected, c.synchronized, c.store, c.sandboxes, c.skipped, c.stale, c.observed, c.configOK, c.configLoaded} {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	state := c.state()
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	truth := map[bool]float64{true: 1}
	gauge(c.connected, truth[state.NRIConnected])
	gauge(c.synchronized, truth[state.NRISynchronized])
	gauge(c.store, truth[state.Engine.StoreConnected])
	phases := map[sandbox.Phase]int{sandbox.Starting: 0, sandbox.Started: 0}
	skipped := make(map[neighbor.Reason]int)
	stale := 0
	for _, rec := range state.Engine.Sandboxes {
		phases[rec.Phase]++
		stale += len(rec.Stale)
		for _, s := range rec.Skipped {
			skipped[s.Reason]++
		}
	}
	for phase, n := range phases {
		gauge(c.sandboxes, float64(n), string(phase))
	}
	for reason, n := range skipped {
		gauge(c.skipped, float64(n), string(reason))
	}
	gauge(c.stale, float64(stale))
	gauge(c.configOK, truth[state.ConfigOK])
	if !state.ConfigLoadedAt.IsZero() {
		gauge(c.configLoaded, float64(state.ConfigLoadedAt.UnixMilli())/1000)
	}
	if state.Observed != nil {
		for target, n := range map[string]uint64{"gateway": state.Observed.Gateways, "other": state.Observed.Others} {
			ch <- prometheus.MustNewConstMetric(c.observed, prometheus.CounterValue, float64(n), target)
		}
	}
}
