// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// targetLabels are those that Prometheus gives each series of a target.
var targetLabels = []string{"instance", "job", "namespace", "pod", "node"}

var (
	selector = regexp.MustCompile(`\b((?:neighpin|process|go)_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`([a-zA-Z_]+)\s*(?:=~|!~|!=|=)`)
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring)\s*\(([^)]*)\)`)
)

// faults tells what an expression names that no series has. Its grammar is
// Prometheus' own business, see e2e/observability.
func faults(expr string, known map[string][]string) (list []string) {
	labels := slices.Clone(targetLabels)
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		own, ok := known[m[1]]
		if !ok {
			list = append(list, "no metric "+m[1])
			continue
		}
		labels = append(labels, own...)
		for _, l := range matcher.FindAllStringSubmatch(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(m[2], ""), -1) {
			if !slices.Contains(own, l[1]) && !slices.Contains(targetLabels, l[1]) {
				list = append(list, fmt.Sprintf("%s has no label %s", m[1], l[1]))
			}
		}
	}
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		for _, name := range regexp.MustCompile(`[a-zA-Z_]+`).FindAllString(m[1], -1) {
			if !slices.Contains(labels, name) {
				list = append(list, "no label "+name)
			}
		}
	}
	return list
}

// knownSeries are the names of all series there can be, with their labels.
func knownSeries(t *testing.T) map[string][]string {
	m, _ := newMetrics(State{Observed: &record.Observed{}, ConfigLoadedAt: time.Now(), Sandboxes: slices.Values([]record.Record{
		{Handler: "runsc", Skipped: []neighbor.Skipped{{Reason: neighbor.ReasonNoARP}}},
	})})
	m.Hook("CreateContainer", time.Millisecond, nil)
	m.Report(record.Event{Kind: record.KindPinned, Record: record.Record{Neighbors: []neighbor.Neighbor{{Family: "inet", Source: "peer"}}}})
	known := make(map[string][]string)
	for line := range strings.Lines(scrape(t, m)) {
		name := regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? `).FindStringSubmatch(line)
		if name == nil {
			continue
		}
		known[name[1]] = append(known[name[1]], []string{}...)
		for _, l := range matcher.FindAllStringSubmatch(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(name[2], ""), -1) {
			known[name[1]] = append(known[name[1]], l[1])
		}
	}
	return known
}

// What the alerts and the dashboard ask for is there.
func TestAlertsAndDashboardNameOnlyWhatThereIs(t *testing.T) {
	known := knownSeries(t)
	rules, err := os.ReadFile("../../deploy/observability/prometheusrule.yaml")
	if err != nil {
		t.Fatal(err)
	}
	exprs := regexp.MustCompile(`(?m)^ +expr: (?:>-\n +)?(.+)$`).FindAllStringSubmatch(string(rules), -1)
	if n := strings.Count(string(rules), "- alert: "); n == 0 || len(exprs) != n {
		t.Errorf("%d expressions of %d alerts", len(exprs), n)
	}
	for _, m := range exprs {
		for _, fault := range faults(m[1], known) {
			t.Errorf("alert: %s: %s", m[1], fault)
		}
	}
	data, err := os.ReadFile("../../deploy/observability/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board any
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	count := 0
	each(board, func(expr string) {
		count++
		for _, fault := range faults(expr, known) {
			t.Errorf("dashboard: %s: %s", expr, fault)
		}
	})
	if count < 10 {
		t.Errorf("the dashboard has %d expressions", count)
	}
	// The other way around: what is worth a metric is worth a look.
	for name := range known {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, namespace) && !strings.Contains(string(data)+string(rules)+"neighpin_config_last_reload_timestamp_seconds", base) {
			t.Errorf("neither alert nor panel shows %s", base)
		}
	}
}

// each calls f with every expression and query of a dashboard.
func each(node any, f func(string)) {
	switch node := node.(type) {
	case map[string]any:
		for key, value := range node {
			if text, ok := value.(string); ok && (key == "expr" || key == "definition") {
				f(text)
			}
			each(value, f)
		}
	case []any:
		for _, value := range node {
			each(value, f)
		}
	}
}

func TestWhatIsMisspelledIsSeen(t *testing.T) {
	known := knownSeries(t)
	for expr, want := range map[string]string{
		`sum(neighpin_stale_copies)`:                                       "",
		`neighpin_stale_copy > 0`:                                          "no metric neighpin_stale_copy",
		`neighpin_events_total{kinds="failed"}`:                            "neighpin_events_total has no label kinds",
		`sum by (instance, verdicts) (neighpin_sandbox_starts_total)`:      "no label verdicts",
		`neighpin_events_total{kind=~"a=b|c"}`:                             "",
		`rate(neighpin_nri_hook_duration_seconds_bucket{le="1"}[5m])`:      "",
		`rate(neighpin_nri_hook_duration_seconds{hook="Synchronize"}[5m])`: "no metric neighpin_nri_hook_duration_seconds",
	} {
		if got := strings.Join(faults(expr, known), ", "); got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}
