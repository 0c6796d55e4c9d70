// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"regexp"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// stateCollector shows the present state, asked at each scrape.
type stateCollector struct {
	state        func() State
	connected    *prometheus.Desc
	synchronized *prometheus.Desc
	store        *prometheus.Desc
	heard        *prometheus.Desc
	sandboxes    *prometheus.Desc
	skipped      *prometheus.Desc
	stale        *prometheus.Desc
	observed     *prometheus.Desc
	messages     *prometheus.Desc
	looks        *prometheus.Desc
	configOK     *prometheus.Desc
	configLoaded *prometheus.Desc

	mu       sync.Mutex // guards the following
	handlers []string   // that were seen
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
		heard:        desc("host_heard", "1 while changes of the host's links are heard, so that pins follow them at once."),
		sandboxes:    desc("sandboxes", "Selected sandboxes that are known, by runtime handler and by phase.", "handler", "phase"),
		skipped:      desc("gateways_skipped", "Gateways that are not pinned now, by reason.", "reason"),
		stale:        desc("stale_copies", "Gateways whose address changed after a runtime had copied it, which only a new pod mends."),
		observed:     desc("observed_solicitations_total", "ARP requests and neighbor solicitations of observed sandboxes, for pinned gateways or for others.", "target"),
		messages:     desc("host_messages_total", "Messages of the kernel about links, addresses and neighbors of the host and of the namespaces it has numbered, that were read."),
		looks:        desc("looks_total", "Comparisons of one started sandbox with what is true, by what led to them.", "cause"),
		configOK:     desc("config_reload_success", "1 while the configuration that was read last is the one in force, 0 while it could not be taken."),
		configLoaded: desc("config_last_reload_timestamp_seconds", "When the configuration in force was read."),
	}
}

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{c.connected, c.synchronized, c.store, c.heard, c.sandboxes, c.skipped, c.stale, c.observed, c.messages, c.looks, c.configOK, c.configLoaded} {
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
	if !state.Storeless {
		gauge(c.store, truth[state.StoreConnected])
	}
	gauge(c.heard, truth[state.HostHeard])
	skipped := make(map[neighbor.Reason]int)
	stale := 0
	sandboxes := state.Sandboxes
	if sandboxes == nil {
		sandboxes = func(func(record.Record) bool) {}
	}
	handlers, known := c.byHandler()
	for rec := range sandboxes {
		known(rec)
		stale += len(rec.Stale)
		for _, s := range rec.Skipped {
			skipped[s.Reason]++
		}
	}
	for handler, n := range handlers {
		gauge(c.sandboxes, float64(n.starting), handler, string(record.Starting))
		gauge(c.sandboxes, float64(n.started), handler, string(record.Started))
	}
	for reason, n := range skipped {
		gauge(c.skipped, float64(n), string(reason))
	}
	gauge(c.stale, float64(stale))
	count := func(desc *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
	}
	count(c.messages, state.HostMessages)
	for _, cause := range record.Causes() {
		if cause != record.CauseStart { // what starts is looked at by itself, and not compared
			count(c.looks, state.Looks[cause], string(cause))
		}
	}
	gauge(c.configOK, truth[state.ConfigOK])
	if !state.ConfigLoadedAt.IsZero() {
		gauge(c.configLoaded, float64(state.ConfigLoadedAt.UnixMilli())/1000)
	}
	if state.Observed != nil {
		for target, n := range map[string]uint64{"gateway": state.Observed.Gateways, "other": state.Observed.Others} {
			count(c.observed, n, target)
		}
	}
}

const (
	// maxHandlers bounds the values of label handler. Handlers are the node's own,
	// by its runtime's configuration, but the wrapper has them from bundles.
	maxHandlers  = 16
	otherHandler = "other"
)

// handlerName is what a handler's name looks like (k8s.io/kubernetes
// pkg/apis/node/validation, a DNS label).
var handlerName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// phases are how many sandboxes are in each phase.
type phases struct{ starting, started int }

// byHandler counts sandboxes by their handler, one at each call of count. Handlers that
// were seen once stay, with zero.
func (c *stateCollector) byHandler() (counts map[string]*phases, count func(record.Record)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts = make(map[string]*phases)
	for _, handler := range c.handlers {
		counts[handler] = &phases{}
	}
	return counts, func(rec record.Record) {
		c.mu.Lock()
		defer c.mu.Unlock()
		handler := rec.HandlerName()
		if _, seen := counts[handler]; !seen && handler != otherHandler && !slices.Contains(c.handlers, handler) { // another scrape may have seen it
			if len(c.handlers) < maxHandlers && handlerName.MatchString(handler) {
				c.handlers = append(c.handlers, handler)
			} else {
				handler = otherHandler
			}
		}
		if counts[handler] == nil {
			counts[handler] = &phases{}
		}
		if rec.Phase == record.Started {
			counts[handler].started++
		} else {
			counts[handler].starting++
		}
	}
}
