// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// The page lists the metrics that there are, and no others.
func TestMetricsAreDocumented(t *testing.T) {
	m, _ := newMetrics(State{Observed: &record.Observed{}, ConfigLoadedAt: time.Now(), Sandboxes: slices.Values([]record.Record{{Handler: "runsc", Skipped: []neighbor.Skipped{{Reason: neighbor.ReasonNoARP}}}})})
	m.Hook("CreateContainer", time.Millisecond, nil)
	m.Report(record.Event{Kind: record.KindPinned, Record: record.Record{Neighbors: []neighbor.Neighbor{{Family: "inet", Source: "peer"}}}})
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := names(regexp.MustCompile("(?m)^\\| `(neighpin_[a-z_]+)` \\|"), string(page))
	present := names(regexp.MustCompile(`(?m)^# TYPE (neighpin_[a-z_]+) `), scrape(t, m))
	if !slices.Equal(documented, present) {
		t.Errorf("documented: %v\npresent:    %v", documented, present)
	}
	text := scrape(t, m)
	for label, series := range map[string]string{"kind": "neighpin_events_total", "cause": "neighpin_repairs_total"} {
		_, table, _ := strings.Cut(string(page), "\n| `"+label+"` |")
		table, _, _ = strings.Cut(table, "\n\n")
		var documented []string
		for _, row := range regexp.MustCompile("(?m)^\\| (`.*?`) \\|").FindAllStringSubmatch(table, -1) {
			documented = append(documented, names(regexp.MustCompile("`(\\w+)`"), row[1])...)
		}
		slices.Sort(documented)
		if present := names(regexp.MustCompile("(?m)^"+series+`\{`+label+`="(\w+)"`), text); len(present) == 0 || !slices.Equal(documented, present) {
			t.Errorf("values of %s that are documented: %v\nof %s: %v", label, documented, series, present)
		}
	}
}

func names(pattern *regexp.Regexp, text string) (list []string) {
	for _, match := range pattern.FindAllStringSubmatch(text, -1) {
		list = append(list, match[1])
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// What is observed is shown where that is asked for, and not as zero where it is not.
func TestObservedQuestions(t *testing.T) {
	m, _ := newMetrics(State{Observed: &record.Observed{Gateways: 3, Others: 5}})
	text := scrape(t, m)
	for _, want := range []string{
		`neighpin_observed_solicitations_total{target="gateway"} 3`,
		`neighpin_observed_solicitations_total{target="other"} 5`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	m, _ = newMetrics(State{})
	if text := scrape(t, m); strings.Contains(text, "observed_solicitations") {
		t.Errorf("shown although nobody observes:\n%s", text)
	}
}
