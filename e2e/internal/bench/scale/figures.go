// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/bench"
)

// name is that of a stage's row.
func (s stage) name() string { return fmt.Sprintf("%d sandboxes", s.count) }

// values are the columns of a size.
func (s size) values() []bench.Value {
	return []bench.Value{
		{Name: "resident", Unit: "MiB", Value: float64(s.resident) / mebibyte}, {Name: "peak", Unit: "MiB", Value: float64(s.peak) / mebibyte},
		{Name: "heap", Unit: "MiB", Value: float64(s.heap) / mebibyte}, {Name: "descriptors", Value: float64(s.descriptors)},
	}
}

// result puts together what was measured.
func (b *bed) result() (result bench.Result, err error) {
	repairs := bench.Line{Name: "from a pin's loss to its repair, median"}
	cost := bench.Line{Name: "processor's time of the daemon, for a repair"}
	starts := bench.Line{Name: "a pod's start, in NRI's handlers, median"}
	result.Rows = append(result.Rows, bench.NewRow("no sandbox", nil, b.base.values()...))
	for _, s := range b.stages {
		start := bench.Summarize(slices.Clone(s.starts)).P50
		row := bench.NewRow(s.name(), s.repairs, append([]bench.Value{
			{Name: "CPU for a repair", Unit: "µs", Value: us(s.cpu)}, {Name: "pod start p50", Unit: "µs", Value: start}}, s.size.values()...)...)
		result.Rows = append(result.Rows, row)
		for line, y := range map[*bench.Line]float64{&repairs: row.Latency.P50, &cost: us(s.cpu), &starts: start} {
			line.X, line.Y = append(line.X, float64(s.count)), append(line.Y, y)
		}
	}
	for _, again := range []struct {
		name string
		fresh
	}{{"all of them, after a restart", b.restarted}, {"all of them, without records", b.takeover}} {
		values := append(again.size.values(), bench.Value{Name: "CPU until ready", Unit: "ms", Value: us(again.cpu) / 1e3})
		result.Rows = append(result.Rows, bench.NewRow(again.name, nil, values...))
	}
	result.Chart = &bench.Chart{XLabel: "sandboxes", YLabel: "µs", LogX: true, LogY: true, Lines: []bench.Line{starts, repairs, cost}}
	b.limits(&result)
	result.Notes = []string{
		"a repair: one pod loses a pin, and the time runs until its namespace has it again; the processor's time is what the daemon used for that and after it, with the record on disk",
		"a pod's start is RunPodSandbox and CreateContainer, in which it is pinned; there is no sandbox store, and so no early path",
		"descriptors, heap and resident size without sandboxes are those of the same daemon before the first pod",
	}
	first, last := b.stages[0].name(), b.stages[len(b.stages)-1].name()
	return result, errors.Join(result.Compare(last, first, "CPU for a repair", 0), result.Compare(last, first, "p50", 0))
}

func (b *bed) limits(result *bench.Result) {
	last := b.stages[len(b.stages)-1]
	all := last.name()
	add := func(of, figure, unit string, value, bar float64) {
		result.Limits = append(result.Limits, bench.Limit{Of: of, Figure: figure, Unit: unit, Value: value, Bar: bar})
	}
	for _, one := range []struct {
		of   string
		size size
		idle float64
	}{{all, last.size, last.idle}, {all + " after a restart", b.restarted.size, b.restarted.idle}, {all + " taken over", b.takeover.size, b.takeover.idle}} {
		add(one.of, "resident size", "MiB", float64(one.size.resident)/mebibyte, barResident)
		if last.count >= full { // with few of them it would tell of what the first one takes
			add(one.of, "heap for each", "KiB", float64(one.size.heap-b.base.heap)/float64(last.count)/(1<<10), barHeap)
		}
		add(one.of, "idle", "% of a processor", one.idle, barIdle)
		add(one.of, "descriptors beyond those without", "", float64(one.size.descriptors-b.base.descriptors), barDescriptors)
	}
	add(all+" with records", "Synchronize", "ms", 1e3*b.restarted.synchronized.Seconds(), barSynchronize)
	add(all+" without records", "Synchronize", "ms", 1e3*b.takeover.synchronized.Seconds(), barSynchronize)
	add(all+" with records", "start until ready", "s", b.restarted.ready.Seconds(), barStart)
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
