// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/internal/figures"
	"github.com/neighpin/neighpin/pkg/events"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// hookNames are those that the handlers of NRI observe.
func hookNames(t *testing.T) (list []string) {
	t.Helper()
	source, err := os.ReadFile("../../hooks/nri/handlers.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`h\.observed\("(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		list = append(list, m[1])
	}
	if len(list) < 5 {
		t.Fatalf("hooks %v", list)
	}
	return list
}

// skipReasons are all for which a gateway may not be pinned, as the sources of the two packages name them.
func skipReasons(t *testing.T) (list []neighbor.Reason) {
	t.Helper()
	for _, path := range []string{"../neighbor/reason.go", "../record/drift.go"} {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^\s*(?:const )?Reason\w+ .*= "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
			list = append(list, neighbor.Reason(m[1]))
		}
	}
	if len(list) < 15 {
		t.Fatalf("reasons %v", list)
	}
	return list
}

// node is a daemon's metrics with that many ordinary pods, each of which has been started by way of NRI.
func node(t *testing.T, pods int) *Metrics {
	t.Helper()
	var all []record.Record
	for i := range pods {
		all = append(all, record.Record{ID: fmt.Sprint(i), Name: fmt.Sprintf("web-%d", i), Namespace: "shop", Handler: "runsc", Phase: record.Started,
			Neighbors: []neighbor.Neighbor{{Family: "inet", Source: neighbor.SourcePeer}, {Family: "inet6", Source: neighbor.SourcePeer}},
			Timing:    record.Timing{Verdict: record.InTime, MarginMs: 60, ResultToPinMs: 3}})
	}
	m, _ := newMetrics(State{NRIConnected: true, NRISynchronized: true, ConfigOK: true, ConfigLoadedAt: time.Now(), Sandboxes: slices.Values(all), HostMessages: 12345})
	for _, rec := range all {
		m.Report(record.Event{Kind: record.KindPinned, Record: rec})
		m.Report(record.Event{Kind: record.KindTiming, Record: rec})
	}
	for _, hook := range hookNames(t) {
		m.Hook(hook, time.Millisecond, nil)
	}
	return m
}

// worst is a daemon's metrics when every label has had every value that it can have.
func worst(t *testing.T) *Metrics {
	t.Helper()
	all := []record.Record{{}}
	for _, reason := range skipReasons(t) {
		all[0].Skipped = append(all[0].Skipped, neighbor.Skipped{Reason: reason})
	}
	for i := range 2 * maxHandlers {
		all = append(all, record.Record{Handler: fmt.Sprintf("handler-%d", i)})
	}
	m, _ := newMetrics(State{ConfigLoadedAt: time.Now(), Observed: &record.Observed{}, Sandboxes: slices.Values(all)})
	for _, hook := range hookNames(t) {
		m.Hook(hook, time.Millisecond, nil)
		m.Hook(hook, time.Millisecond, errors.New("refused"))
	}
	for _, of := range sources {
		for _, family := range []string{neighbor.FamilyInet, neighbor.FamilyInet6} {
			m.Report(record.Event{Kind: record.KindPinned, Record: record.Record{Neighbors: []neighbor.Neighbor{{Family: family, Source: neighbor.Source(of)}}}})
		}
	}
	for _, outcome := range events.Outcomes() {
		m.KubernetesEvent(outcome)
	}

	return m
}

// series counts the lines that are one each.
func series(text string) (n int) {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}

// A node's series do not grow with its pods, and have an end whatever happens there.
func TestSeriesOfANodeAreBounded(t *testing.T) {
	const nodes = 5000
	ordinary := scrape(t, node(t, 250))
	if few, many := series(scrape(t, node(t, 1))), series(scrape(t, node(t, 2500))); few != series(ordinary) || many != few {
		t.Errorf("%d series with one pod, %d with 250, %d with 2500", few, series(ordinary), many)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte(ordinary)); err != nil || w.Close() != nil {
		t.Fatal("compress")
	}
	doc := figures.Read(t, "../../docs/scale.md")
	most := series(scrape(t, worst(t)))
	doc.Check(t, "series of a node with 250 pods", float64(series(ordinary)), 0.05)
	doc.Check(t, "series of a node, at most", float64(most), 0.05)
	doc.Check(t, "series of 5,000 nodes", float64(nodes*series(ordinary)), 0.05)
	doc.Check(t, "one scrape, KiB", float64(len(ordinary))/1024, 0.05)
	doc.Check(t, "one scrape, compressed, KiB", float64(packed.Len())/1024, 0.1)
	doc.Check(t, "samples a second at one scrape in 30 s", float64(nodes*series(ordinary))/30, 0.05)
	doc.Check(t, "MiB a second at one scrape in 30 s", nodes*float64(len(ordinary))/30/1024/1024, 0.05)
}
