// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestQuantilesAreTheLeastThatTheShareDoesNotExceed(t *testing.T) {
	var samples []time.Duration
	for i := 200; i > 0; i-- {
		samples = append(samples, time.Duration(i)*time.Microsecond)
	}
	got := Summarize(samples)
	if want := (Summary{N: 200, Min: 1, P50: 100, P90: 180, P99: 198, Max: 200, Mean: 100.5}); got != want {
		t.Errorf("of 1 to 200: %+v, want %+v", got, want)
	}
	if got := Summarize([]time.Duration{5 * time.Microsecond}); got.P50 != 5 || got.P99 != 5 || got.N != 1 {
		t.Errorf("of one: %+v", got)
	}
	if got := Summarize(nil); got != (Summary{}) {
		t.Errorf("of none: %+v", got)
	}
	if got := Median([]float64{9, 1, 5, 7}); got != 5 {
		t.Errorf("median is %v, want 5", got)
	}
}

func TestTheIntervalOfPairedRatiosIsThatOfTheBinomialDistribution(t *testing.T) {
	of, to := make([]time.Duration, 100), make([]time.Duration, 100)
	for i := range of {
		of[i], to[i] = time.Duration(i+1), 1 // ratios 1 to 100
	}
	// Tables of the sign test have the 40th and the 61st of a hundred.
	if median, low, high := PairedRatio(of, to); median != 50.5 || low != 40 || high != 61 {
		t.Errorf("median %v, %v to %v; want 50.5, 40 to 61", median, low, high)
	}
	if median, low, high := PairedRatio(of[:6], to[:6]); median != 3.5 || low != 1 || high != 6 {
		t.Errorf("of six: median %v, %v to %v; want 3.5, 1 to 6", median, low, high)
	}
	if median, _, _ := PairedRatio(of[:5], to[:5]); median != 0 {
		t.Errorf("of five: %v, which nobody can know with confidence", median)
	}
}

func TestAChartAndALimitOfRowsWithoutLatency(t *testing.T) {
	r := Result{Name: "scale", Rows: []Row{{Name: "at 10", Values: []Value{{Name: "heap", Unit: "KiB", Value: 3}}}},
		Limits: []Limit{{Of: "neighpin", Figure: "RSS", Unit: "MiB", Value: 40, Bar: 48}, {Of: "pods", Figure: "in time", Value: 1, Bar: 2, AtLeast: true}},
		Chart:  &Chart{XLabel: "sandboxes", YLabel: "µs", LogX: true, Lines: []Line{{Name: "one event", X: []float64{10, 10000}, Y: []float64{5, 5}}}}}
	text := r.markdown()
	for _, want := range []string{"|  | heap KiB |", "| at 10 | 3 |", "RSS of neighpin: 40 MiB (at most 48 MiB: met)", "in time of pods: 1 (at least 2: not met)"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if err := r.plot(filepath.Join(t.TempDir(), "chart.svg")); err != nil {
		t.Error(err)
	}
}

// section is one whose figures are known.
func section(name string) Section {
	return Section{Name: name, Title: "A title", Run: func(_ context.Context, env Env) (Result, error) {
		r := Result{Notes: []string{"a note"}, Rows: []Row{
			NewRow("floor", []time.Duration{10 * time.Microsecond, 20 * time.Microsecond}, Value{Name: "calls", Value: 10}),
			NewRow("ours", []time.Duration{40 * time.Microsecond, 50 * time.Microsecond}, Value{Name: "calls", Value: 12}),
		}}
		return r, errors.Join(r.Compare("ours", "floor", "p50", 2), r.Compare("ours", "floor", "calls", 1.5))
	}}
}

func TestARunIsPrintedWrittenAndPutIntoTheDocument(t *testing.T) {
	var out bytes.Buffer
	report := Report{Schema: Schema, Short: true}
	broken := Section{Name: "broken", Run: func(context.Context, Env) (Result, error) { return Result{}, io.ErrUnexpectedEOF }}
	err := report.Run(t.Context(), []Section{broken, section("one"), section("two")}, nil, Env{Progress: &out})
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(report.Sections) != 2 {
		t.Fatalf("%d sections, %v: a broken one must be said and cost no other", len(report.Sections), err)
	}
	for _, want := range []string{"p50 of ours: 4 × floor (at most 2: not met)", "calls of ours: 1.20 × floor (at most 1.50: met)", "a note"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}

	path := filepath.Join(t.TempDir(), "sub", "results.json")
	if err := report.Write(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var read Report
	if err := json.Unmarshal(data, &read); err != nil || read.Sections[1].Rows[1].Latency.P50 != 40 {
		t.Errorf("read back: %+v, %v", read, err)
	}

	doc := filepath.Join(t.TempDir(), "doc.md")
	const blocks = "before\n<!-- bench:begin machine -->\nold\n<!-- bench:end machine -->\n<!-- bench:begin one -->\n<!-- bench:end one -->\n"
	if err := os.WriteFile(doc, []byte(blocks), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := report.UpdateDocument(doc); err == nil || !strings.Contains(err.Error(), "block two") {
		t.Errorf("a section without a block: %v", err)
	}
	report.Sections = report.Sections[:1]
	for range 2 { // again changes nothing
		if err := report.UpdateDocument(doc); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(got); strings.Contains(text, "old") || strings.Count(text, "| ours | 2 | 40 |") != 1 || !strings.HasPrefix(text, "before\n") {
		t.Errorf("the document is\n%s", text)
	}
	const more = blocks + "<!-- bench:begin two -->\n<!-- bench:end two -->\n"
	if err := os.WriteFile(doc, []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := report.UpdateDocument(doc); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(doc); err != nil || !strings.Contains(string(got), "old") || !strings.Contains(string(got), "| ours | 2 | 40 |") {
		t.Errorf("a run of some sections says of what machine the others are: %v\n%s", err, got)
	}
	if svg, err := os.ReadFile(filepath.Join(filepath.Dir(doc), "images", "bench-one.svg")); err != nil || !bytes.Contains(svg, []byte("<svg")) {
		t.Errorf("the plot: %v", err)
	}
}

func TestOnlySectionsThatExistCanBeChosen(t *testing.T) {
	var report Report
	if err := report.Run(t.Context(), []Section{section("one")}, []string{"other"}, Env{Progress: io.Discard}); err == nil {
		t.Error("a section that does not exist was accepted")
	}
	if err := report.Run(t.Context(), []Section{section("one"), section("two")}, []string{"two"}, Env{Progress: io.Discard}); err != nil ||
		len(report.Sections) != 1 || report.Sections[0].Name != "two" {
		t.Errorf("%+v, %v", report.Sections, err)
	}
}
