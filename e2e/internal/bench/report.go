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
	Notes  []string `json:"notes,omitempty"` // what is to be known about the figures

	// Load is the machine's load average over a minute, before the section and after it.
	Load [2]float64 `json:"load"`
}

// Row is one contender.
type Row struct {
	Name    string  `json:"name"`
	Latency Summary `json:"latency"`
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
}

// Met tells whether the ratio is within its bar, if it has one.
func (r Ratio) Met() bool { return r.Bar == 0 || r.Ratio <= r.Bar }

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
