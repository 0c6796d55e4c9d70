// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// plot draws the section's chart, or how the latencies of each contender are distributed.
func (r Result) plot(path string) error {
	chart, top := r.Chart, false
	if chart == nil {
		chart, top = r.distribution(), true
	}
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = chart.XLabel, chart.YLabel
	if chart.LogX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	if chart.LogY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	for i, l := range chart.Lines {
		points := make(plotter.XYs, len(l.X))
		for j := range points {
			points[j] = plotter.XY{X: l.X[j], Y: l.Y[j]}
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return fmt.Errorf("draw %s: %w", l.Name, err)
		}
		if top {
			line.StepStyle = plotter.PreStep
		}
		// Colors repeat, and then the lines are broken.
		line.Color, line.Width, line.Dashes = plotutil.Color(i), vg.Points(1.5), plotutil.Dashes(i/len(plotutil.DefaultColors))
		p.Add(line)
		p.Legend.Add(l.Name, line)
	}
	if top {
		p.Y.Min, p.Y.Max = 0, 1
		// Room for the legend: two fifths of the width if it is a long one.
		room := 5.0
		if len(chart.Lines) > 5 {
			room = math.Pow(p.X.Max/p.X.Min, 2.0/3)
		}
		p.X.Min /= room
	} else if !chart.LogY {
		p.Y.Min = min(p.Y.Min, 0)
	}
	return p.Save(8*vg.Inch, 4*vg.Inch, path)
}

// distribution is the share of rounds that took no longer, for each contender.
func (r Result) distribution() *Chart {
	chart := &Chart{XLabel: "µs, logarithmic", YLabel: "share of rounds", LogX: true}
	for _, row := range r.Rows {
		if len(row.samples) == 0 {
			continue
		}
		line := Line{Name: row.Name}
		for j, sample := range row.samples {
			line.X = append(line.X, microseconds(sample))
			line.Y = append(line.Y, float64(j+1)/float64(len(row.samples)))
		}
		chart.Lines = append(chart.Lines, line)
	}
	return chart
}

// empty tells that there is nothing to draw.
func (r Result) empty() bool { return r.Chart == nil && len(r.distribution().Lines) == 0 }
