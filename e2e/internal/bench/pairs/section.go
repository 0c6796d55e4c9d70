// SPDX-License-Identifier: Apache-2.0

package pairs

import (
	"context"
	"errors"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/bench"
)

// bar is what the upper end of the confidence interval may be.
const bar = 1.03

// What a quarter of the pairs of all sorts may take, at least and at most. Between these it is what is left of a whole run's time, but for what the
// sections after this one take: a machine that is too busy for all pairs has fewer, which the rows say.
const (
	pairsLeast   = 15 * time.Second
	pairsMost    = 55 * time.Second
	controlLimit = 4 * time.Second
	following    = 170 * time.Second
)

// quarter is the limit at the beginning of the pairs.
func quarter(env bench.Env) time.Duration {
	return min(max((time.Until(env.Until)-following)/sides, pairsLeast), pairsMost)
}

// sorts are the pods that are started. neighpin's default selects gVisor's.
func sorts() []sort {
	return []sort{
		{Name: "gVisor", Handler: "runsc", Pinned: true},
		{Name: "runc, not selected", Handler: "runc"},
	}
}

// Pairs compares nodes with and without neighpin.
func Pairs() bench.Section {
	return bench.Section{Name: "pairs", Title: "a pod's start on containerd, with neighpin against without", Run: func(ctx context.Context, env bench.Env) (bench.Result, error) {
		return measure(ctx, env, env.Rounds(150, 8), env.Rounds(12, 0))
	}}
}

// series are the pairs of one sort of pod: at the same place, one with neighpin and one without.
type series struct{ with, without []start }

// measure starts so many pairs of each sort, and of those where neither node has neighpin.
func measure(ctx context.Context, env bench.Env, pairs, controls int) (result bench.Result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // after the nodes were asked to end
	var nodes [2]*remote
	for i, name := range [...]string{"A", "B"} {
		if nodes[i], err = startRemote(ctx, name); err != nil {
			return result, err
		}
		defer func() { err = errors.Join(err, nodes[i].close()) }()
	}
	if err := both(nodes, order{Do: doReady}); err != nil {
		return result, err
	}
	b := blocks{env: env, nodes: nodes, sorts: sorts(), limit: controlLimit}
	var control []series
	if controls > 0 {
		if control, err = b.run(ctx, "pairs without neighpin", controls); err != nil {
			return result, err
		}
	}
	b.neighpin, b.limit = true, quarter(env)
	measured, err := b.run(ctx, "pairs", pairs)
	if err != nil {
		return result, err
	}
	for i, s := range b.sorts {
		add(&result, s.Name, measured[i], bar)
	}
	for i, s := range control {
		add(&result, b.sorts[i].Name+", control", s, 0)
	}
	result.Notes = append(result.Notes,
		"the time is that of the CRI's RunPodSandbox, CreateContainer and StartContainer together; p50 and so on are of all pods, the ratio is that within each pair",
		"every selected pod was pinned in time, as its record says; no other has a permanent neighbor; neighpin was asked about every pod on its node",
		"sandbox, create and start are the medians of the calls; CPU is what the daemons themselves had of a processor during a start, as medians",
		"in the control neither node has neighpin; the one that would have it stands for it")
	return result, nil
}

// add adds the rows of one sort and their ratio.
func add(result *bench.Result, name string, s series, bar float64) {
	with, without := name+" with neighpin", name+" without"
	result.Rows = append(result.Rows, row(with, s.with), row(without, s.without))
	median, low, high := bench.PairedRatio(sums(s.with), sums(s.without))
	result.Ratios = append(result.Ratios, bench.Ratio{Of: with, To: without, Figure: "start", Ratio: median, Low: low, High: high, Bar: bar})
}

// row has the whole start, and the medians of its parts.
func row(name string, starts []start) bench.Row {
	part := func(of func(start) time.Duration) float64 {
		var values []float64
		for _, s := range starts {
			values = append(values, float64(of(s).Microseconds())/1e3)
		}
		return bench.Median(values)
	}
	return bench.NewRow(name, sums(starts),
		bench.Value{Name: "sandbox", Unit: "ms", Value: part(func(s start) time.Duration { return s.Sandbox })},
		bench.Value{Name: "create", Unit: "ms", Value: part(func(s start) time.Duration { return s.Create })},
		bench.Value{Name: "start", Unit: "ms", Value: part(func(s start) time.Duration { return s.Start })},
		bench.Value{Name: "containerd CPU", Unit: "ms", Value: part(func(s start) time.Duration { return s.Containerd })},
		bench.Value{Name: "neighpin CPU", Unit: "ms", Value: part(func(s start) time.Duration { return s.Neighpin })})
}

func sums(starts []start) (list []time.Duration) {
	for _, s := range starts {
		list = append(list, s.sum())
	}
	return list
}
