// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// plot draws how the latencies of each contender are distributed: the share of rounds that took no longer.
func (r Result) plot(path string) error {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = "µs, logarithmic", "share of rounds"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Y.Min, p.Y.Max = 0, 1
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	for i, row := range r.Rows {
		if len(row.samples) == 0 {
			continue
		}
		if room := row.Latency.Min / 5; i == 0 || room < p.X.Min { // for the legend
			p.X.Min = room
		}
		points := make(plotter.XYs, len(row.samples))
		for j, sample := range row.samples {
			points[j] = plotter.XY{X: microseconds(sample), Y: float64(j+1) / float64(len(row.samples))}
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return fmt.Errorf("draw %s: %w", row.Name, err)
		}
		line.StepStyle, line.Color, line.Width = plotter.PreStep, plotutil.Color(i), vg.Points(1.5)
		p.Add(line)
		p.Legend.Add(row.Name, line)
	}
	return p.Save(8*vg.Inch, 4*vg.Inch, path)
}
