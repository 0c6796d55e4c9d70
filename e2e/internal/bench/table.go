// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// latencies are the columns of rows that have any.
func latencies() []string { return []string{"n", "p50 µs", "p90 µs", "p99 µs", "max µs"} }

// header names the columns of a result's table: latency first, then every value that a row has.
func (r Result) header() []string {
	header := []string{""}
	if slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Latency.N > 0 }) {
		header = append(header, latencies()...)
	}
	for _, row := range r.Rows {
		for _, v := range row.Values {
			if title := v.title(); !slices.Contains(header, title) {
				header = append(header, title)
			}
		}
	}
	return header
}

func (v Value) title() string { return strings.TrimSpace(v.Name + " " + v.Unit) }

// cells are a row's, in the order of the header.
func (r Row) cells(header []string) []string {
	l := r.Latency
	own := []string{strconv.Itoa(l.N), number(l.P50), number(l.P90), number(l.P99), number(l.Max)}
	cells := []string{r.Name}
	for _, title := range header[1:] {
		cell := ""
		if i := slices.Index(latencies(), title); i >= 0 && l.N > 0 {
			cell = own[i]
		}
		for _, v := range r.Values {
			if v.title() == title {
				cell = number(v.Value)
			}
		}
		cells = append(cells, cell)
	}
	return cells
}

// number has three digits that mean something, if it is not a great one.
func number(f float64) string {
	switch {
	case f == float64(int64(f)), f >= 100:
		return strconv.FormatFloat(f, 'f', 0, 64)
	case f >= 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 2, 64)
}

// lines say the ratios and the limits, one each.
func (r Result) lines() []string {
	var lines []string
	for _, q := range r.Ratios {
		line := fmt.Sprintf("%s of %s: %s × %s", q.Figure, q.Of, number(q.Ratio), q.To)
		if q.High != 0 {
			line += fmt.Sprintf(", 95 %% confidence %.3f to %.3f", q.Low, q.High)
		}
		if q.Bar != 0 {
			line += verdict("at most", q.Bar, "", q.Met())
		}
		lines = append(lines, line)
	}
	for _, l := range r.Limits {
		words := "at most"
		if l.AtLeast {
			words = "at least"
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s of %s: %s %s", l.Figure, l.Of, number(l.Value), l.Unit))+verdict(words, l.Bar, l.Unit, l.Met()))
	}
	return lines
}

func verdict(words string, bar float64, unit string, met bool) string {
	not := ""
	if !met {
		not = "not "
	}
	return fmt.Sprintf(" (%s: %smet)", strings.TrimSpace(words+" "+number(bar)+" "+unit), not)
}

// Print writes a table for people, the ratios and the notes.
func (r Result) Print(w io.Writer) {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	header := r.header()
	fmt.Fprintln(out, strings.Join(header, "\t")+"\t")
	for _, row := range r.Rows {
		fmt.Fprintln(out, strings.Join(row.cells(header), "\t")+"\t")
	}
	_ = out.Flush()
	for _, line := range slices.Concat(r.lines(), r.Notes) {
		fmt.Fprintln(w, "  "+line)
	}
	fmt.Fprintf(w, "  took %.0f s; load %.1f before, %.1f after\n", r.Took, r.Load[0], r.Load[1])
}

// markdown is the same for a document.
func (r Result) markdown() string {
	var b strings.Builder
	header := r.header()
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat("---|", len(header)))
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row.cells(header), " | "))
	}
	b.WriteString("\n")
	for _, line := range slices.Concat(r.lines(), r.Notes) {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	fmt.Fprintf(&b, "- The section took %.0f s; load of the machine: %.1f before, %.1f after\n", r.Took, r.Load[0], r.Load[1])
	return b.String()
}
