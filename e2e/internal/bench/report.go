// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Schema is the version of the file of JSON.
const Schema = 1

// Report is a whole run.
type Report struct {
	Schema  int       `json:"schema"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"` // of the whole run
	Short   bool      `json:"short"`   // fewer rounds: a look, and no measurement
	Machine Machine   `json:"machine"`
	// Sections are those that ran, in their order.
	Sections []Result `json:"sections"`
}

// Result is what a section found.
type Result struct {
	Name   string   `json:"name"`
	Title  string   `json:"title"`
	Rows   []Row    `json:"rows"`
	Ratios []Ratio  `json:"ratios,omitempty"`
	Limits []Limit  `json:"limits,omitempty"`
	Notes  []string `json:"notes,omitempty"` // what is to be known about the figures
	// Chart is drawn for the section; without one, how the rows' latencies are distributed.
	Chart *Chart `json:"chart,omitempty"`

	// Took is how long the section took, in seconds, with all that it had to make and to remove.
	Took float64 `json:"took_s"`
	// Load is the machine's load average over a minute, before the section and after it.
	Load [2]float64 `json:"load"`
}

// Row is one contender.
type Row struct {
	Name    string  `json:"name"`
	Latency Summary `json:"latency"` // of none, where the row has only values
	Values  []Value `json:"values,omitempty"`

	samples []time.Duration // for the plot
}

// Value is another figure of a contender, such as the processor's time per pod.
type Value struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"` // empty: a count
	Value float64 `json:"value"`
}

// Ratio compares two contenders by one figure.
type Ratio struct {
	Of     string  `json:"of"`
	To     string  `json:"to"`
	Figure string  `json:"figure"` // "p50", "p99", or the name of a value
	Ratio  float64 `json:"ratio"`
	Bar    float64 `json:"bar,omitempty"` // what it is to be at most; zero where nothing is said

	// Low and High are its 95 % confidence interval; zero where none was made.
	Low  float64 `json:"low,omitempty"`
	High float64 `json:"high,omitempty"`
}

// Met tells whether the ratio, or the upper end of its confidence interval, is within its bar, if it has one.
func (r Ratio) Met() bool { return r.Bar == 0 || max(r.Ratio, r.High) <= r.Bar }

// Limit is a figure by itself that is to stay within a bar.
type Limit struct {
	Of      string  `json:"of"`
	Figure  string  `json:"figure"`
	Unit    string  `json:"unit,omitempty"`
	Value   float64 `json:"value"`
	Bar     float64 `json:"bar"`
	AtLeast bool    `json:"at_least,omitempty"` // the bar is below, and not above
}

// Met tells whether the figure is within its bar.
func (l Limit) Met() bool {
	if l.AtLeast {
		return l.Value >= l.Bar
	}
	return l.Value <= l.Bar
}

// Chart is a drawing of lines.
type Chart struct {
	XLabel string `json:"x"`
	YLabel string `json:"y"`
	LogX   bool   `json:"log_x,omitempty"`
	LogY   bool   `json:"log_y,omitempty"`
	Lines  []Line `json:"lines"`
}

// Line is drawn through points, whose coordinates X and Y have one by one.
type Line struct {
	Name string    `json:"name"`
	X    []float64 `json:"xs"`
	Y    []float64 `json:"ys"`
}

// Row finds a contender's row by name.
func (r *Result) Row(name string) (Row, error) {
	for _, row := range r.Rows {
		if row.Name == name {
			return row, nil
		}
	}
	return Row{}, fmt.Errorf("find row %q of section %s: there is none", name, r.Name)
}

// figure is the row's figure by name.
func (r Row) figure(name string) (float64, error) {
	switch name {
	case "p50":
		return r.Latency.P50, nil
	case "p99":
		return r.Latency.P99, nil
	}
	for _, v := range r.Values {
		if v.Name == name {
			return v.Value, nil
		}
	}
	return 0, fmt.Errorf("find figure %q of row %s: there is none", name, r.Name)
}

// Compare adds the ratio of one figure of two contenders.
func (r *Result) Compare(of, to, figure string, bar float64) error {
	var values [2]float64
	for i, name := range [...]string{of, to} {
		row, err := r.Row(name)
		if err != nil {
			return err
		}
		if values[i], err = row.figure(figure); err != nil {
			return err
		}
	}
	if values[1] == 0 {
		return fmt.Errorf("compare %s of %s to that of %s: which is zero", figure, of, to)
	}
	r.Ratios = append(r.Ratios, Ratio{Of: of, To: to, Figure: figure, Ratio: values[0] / values[1], Bar: bar})
	return nil
}

// Write writes the report to a file, whose folder it makes.
func (r Report) Write(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the report's folder: %w", err)
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
