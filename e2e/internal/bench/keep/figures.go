// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"fmt"
	"slices"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/bench"
)

// figures are what was measured: first without pods, then with them, then with noise about their own gateway.
type figures struct {
	idle     [2]sample
	noise    [3][]sample
	round    sample
	requests float64 // of one comparison
}

// share is a sample's share of a core, in percent.
func (s sample) share() float64 { return 100 * s.cpu.Seconds() / s.took.Seconds() }

// perHour scales a count in a sample.
func (s sample) perHour(n float64) float64 { return n * time.Hour.Seconds() / s.took.Seconds() }

// row shows a sample as if it had lasted an hour.
func (s sample) row(name string, requests float64) bench.Row {
	return bench.NewRow(name, nil,
		bench.Value{Name: "CPU", Unit: "s/h", Value: s.perHour(s.cpu.Seconds())}, bench.Value{Name: "CPU", Unit: "% of a core", Value: s.share()},
		bench.Value{Name: "changes beside", Unit: "/h", Value: s.perHour(float64(s.changes))},
		bench.Value{Name: "messages heard", Unit: "/h", Value: s.perHour(s.heard)}, bench.Value{Name: "looks", Unit: "/h", Value: s.perHour(s.looks)},
		bench.Value{Name: "requests", Unit: "/h", Value: s.perHour(s.looks) * requests})
}

// usually is an hour of a node that is at rest: what is measured between comparisons, and those that there are in an hour.
func (f figures) usually(pods int) sample {
	hour := sample{took: time.Hour, cpu: time.Duration(f.idle[1].perHour(float64(f.idle[1].cpu))), heard: f.idle[1].perHour(f.idle[1].heard)}
	hour.looks = float64(min(pods, inOne)) * float64(time.Hour/usual)
	hour.cpu += time.Duration(hour.looks * float64(f.look()))
	hour.heard += hour.looks * f.round.heard / f.round.looks
	return hour
}

// look is what one comparison costs.
func (f figures) look() time.Duration {
	idle := time.Duration(float64(f.idle[1].cpu) * f.round.took.Seconds() / f.idle[1].took.Seconds())
	return time.Duration(float64(f.round.cpu-idle) / f.round.looks)
}

func (f figures) result(p plan) (result bench.Result) {
	at := slices.Index(p.rates, noisy)
	kept := fmt.Sprintf("%d pods", p.pods)
	names := [...]string{"no pods, noise", kept + ", noise", kept + ", noise about their gateway"}
	result.Rows = []bench.Row{f.idle[0].row("no pods, at rest", 0), f.usually(p.pods).row(kept+", at rest", f.requests)}
	for i, name := range names {
		result.Rows = append(result.Rows, f.noise[i][at].row(name, 0))
	}
	for i, name := range names {
		result.Limits = append(result.Limits, bench.Limit{Of: name, Figure: "CPU", Unit: "% of a core", Value: f.noise[i][at].share(), Bar: noiseBar})
	}
	noise, gateway := f.noise[1][at], f.noise[2][at]
	result.Notes = []string{
		fmt.Sprintf("an hour at rest is made of what %v without a comparison cost, and of the comparisons of %d pods every %v, which is all that there are by default; "+
			"a comparison of one pod takes %d µs of the processor and %.1f requests to the kernel, by %.0f of them", p.window, min(inOne, p.pods), usual,
			f.look().Microseconds(), f.requests, f.round.looks),
		fmt.Sprintf("noise: %.0f changes a second, half of routes and half of neighbors, in %d namespaces that the node has numbered; %.0f %% of what was asked for was done, "+
			"%.2f messages a change were read and %.0f looks taken; where all entries were of the pods' own gateway, %.2f and %.0f", float64(noisy), noisySpaces,
			100*float64(noise.changes)/noise.took.Seconds()/noisy, noise.heard/float64(noise.changes), noise.looks, gateway.heard/float64(gateway.changes), gateway.looks),
		"after that, another address of one pod's gateway led to a look and was told",
		"messages and looks are counted by the daemon, requests by strace; NRI's side is the real library, and there is no containerd",
	}
	result.Chart = f.chart(names)
	return result
}

// chart shows how the cost grows with the noise.
func (f figures) chart(names [3]string) *bench.Chart {
	chart := &bench.Chart{XLabel: "changes beside, per second", YLabel: "CPU, % of a core"}
	for i, name := range names {
		line := bench.Line{Name: name, X: []float64{0}, Y: []float64{f.idle[min(i, 1)].share()}}
		for _, s := range f.noise[i] {
			line.X, line.Y = append(line.X, float64(s.changes)/s.took.Seconds()), append(line.Y, s.share())
		}
		chart.Lines = append(chart.Lines, line)
	}
	return chart
}
