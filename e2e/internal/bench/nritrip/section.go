// SPDX-License-Identifier: Apache-2.0

package nritrip

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/bench/podstart"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/setup"
	"github.com/neighpin/neighpin/pkg/record"
)

// NRI compares neighpin with a plugin that does nothing.
func NRI() bench.Section {
	return bench.Section{Name: "nri", Title: "NRI's round trip, against a plugin that does nothing", Run: func(ctx context.Context, env bench.Env) (bench.Result, error) {
		return measure(ctx, env, []int{0, 100, 1000, 10000}, env.Rounds(14, 3), env.Rounds(36, 4))
	}}
}

// Events that are measured, by the names that neighpin's metrics have for them.
const (
	runPodSandbox   = "RunPodSandbox"
	createContainer = "CreateContainer"
)

func events() []string { return []string{runPodSandbox, createContainer} }

// What the round trip may be, as a multiple of the empty plugin's.
const (
	barP50 = 1.3
	barP99 = 2
)

// measure asks about so many rounds of pods, and about each pod so many times.
func measure(ctx context.Context, env bench.Env, known []int, rounds, laps int) (result bench.Result, err error) {
	programs, err := setup.FromEnvironment()
	if err != nil {
		return result, err
	}
	n, err := node.Start(ctx, programs, node.Options{NRIDisabled: true}) // NRI is served here
	if err != nil {
		return result, err
	}
	ending := context.WithoutCancel(ctx)
	defer func() {
		if err != nil && ctx.Err() == nil {
			if folder, failed := n.KeepLogs("bench-nri"); failed == nil {
				env.Say("the logs are kept in %s", folder)
			}
		}
		err = errors.Join(err, n.Close(ending), os.RemoveAll(home))
	}()
	own, err := podstart.NewBed()
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, own.Close()) }()
	records, err := openStore()
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, records.close()) }()
	b := bed{Bed: own, store: records}
	seeds, unseed, err := seed(ctx, n, b)
	defer func() { err = errors.Join(err, unseed(ending)) }()
	if err != nil {
		return result, err
	}
	parties, err := startParties(ctx, env, n, known, seeds)
	defer func() {
		for _, r := range parties {
			err = errors.Join(err, r.close())
		}
	}()
	if err == nil {
		err = takeTurns(ctx, env, b, parties, rounds, laps)
	}
	if err != nil {
		return result, err
	}
	return report(ctx, parties, laps)
}

// seed has a neighpin pin some pods of gVisor's and returns its records of them, as patterns for many. The pods stay until unseed
// is called, which it is in any case.
func seed(ctx context.Context, n *node.Node, b bed) (records []record.Record, unseed func(context.Context) error, err error) {
	r := &party{folder: filepath.Join(home, "seed", "netns"), state: filepath.Join(home, "seed", "state")}
	var pods []*pod
	unseed = func(ctx context.Context) error {
		var errs []error
		for _, p := range pods {
			errs = append(errs, b.store.remove(ctx, p.sandbox.Id))
			if p.network != nil {
				errs = append(errs, p.network.Remove())
			}
		}
		return errors.Join(errs...)
	}
	if err := os.MkdirAll(r.folder, 0o755); err != nil {
		return nil, unseed, fmt.Errorf("make the folder of namespaces: %w", err)
	}
	if r.daemon, err = startDaemon(n, r.state, r.folder, filepath.Join(home, "none.sock")); err != nil {
		return nil, unseed, err
	}
	if pods, err = r.makePods(ctx, b); err == nil {
		records, err = record.In(r.state).List()
	}
	if err == nil && len(records) != batch {
		err = fmt.Errorf("count the records of pods: %d, want %d", len(records), batch)
	}
	return records, unseed, errors.Join(err, r.daemon.Kill())
}

func startParties(ctx context.Context, env bench.Env, n *node.Node, known []int, records []record.Record) (parties []*party, err error) {
	for i, count := range known {
		env.Say("starting a neighpin that knows %d sandboxes", count)
		r, err := startParty(ctx, n, i, count, records)
		if err != nil {
			return parties, err
		}
		parties = append(parties, r)
	}
	for _, r := range parties {
		began := time.Now()
		if err := r.settle(ctx); err != nil {
			return parties, err
		}
		env.Say("the one with %d is at rest after %.1f s", r.known, time.Since(began).Seconds())
	}
	return parties, nil
}

// takeTurns measures: each pod's events go to neighpin and to the empty plugin in turn, and the parties take turns.
func takeTurns(ctx context.Context, env bench.Env, b bed, parties []*party, rounds, laps int) error {
	for round := range rounds {
		all := make([][]*pod, len(parties))
		var err error
		for i, r := range parties {
			if err == nil {
				all[i], err = r.makePods(ctx, b)
			}
		}
		for _, r := range parties {
			if err == nil {
				// The runtime asks some 50 ms after gVisor has taken a namespace; what neighpin does with a pod that has started is over then.
				err = r.rest(ctx, 10*time.Millisecond)
			}
		}
		for i := range kinds * batch {
			for j := range parties {
				at := (j + i + round) % len(parties)
				if err == nil {
					err = parties[at].measureOne(ctx, all[at][i], laps, (i+round+j)%2 == 0)
				}
			}
		}
		for i, r := range parties {
			err = errors.Join(err, r.removePods(context.WithoutCancel(ctx), b, all[i]))
		}
		if err != nil {
			return err
		}
		if round%10 == 9 {
			env.Say("%d of %d rounds", round+1, rounds)
		}
	}
	return ctx.Err()
}

// report makes rows of what was measured, and checks that it was done.
func report(ctx context.Context, parties []*party, laps int) (result bench.Result, err error) {
	var own []string
	for _, r := range parties {
		all, err := r.daemon.Handled(ctx, r.metricsAddress())
		if err != nil {
			return result, err
		}
		mean := func(event string) float64 {
			return float64(all[event].Sum.Microseconds()) / float64(max(all[event].Count, 1))
		}
		own = append(own, fmt.Sprintf("%.0f and %.0f with %d known", mean(runPodSandbox), mean(createContainer), r.known))
		if err := r.finish(ctx); err != nil {
			return result, err
		}
	}
	result.Chart = &bench.Chart{XLabel: "sandboxes known (the leftmost: none)", YLabel: "p50 of a round trip, µs", LogX: true}
	for _, event := range events() {
		for kind := range kinds {
			add(&result, parties, event, kind)
		}
	}
	result.Notes = []string{
		"known sandboxes are selected ones of gVisor's that neighpin has taken over from records and that the runtime has told it of; " +
			"their records are real ones, copied, but in the place of their namespaces are files: what a handler does for another pod looks at neither",
		fmt.Sprintf("every pod is one that has just started, and both plugins are asked about it %d times, in turns; the handlers do the same each time", laps),
		"of the round trip, neighpin's own handlers of RunPodSandbox and CreateContainer take, on average in µs: " + strings.Join(own, "; "),
	}
	return result, nil
}

// add adds the rows of one event of one kind of pods, and compares the worst of them with the bars.
func add(result *bench.Result, parties []*party, event string, kind int) {
	worst := map[string]bench.Ratio{"p50": {Bar: barP50}, "p99": {Bar: barP99}}
	ours, other := bench.Line{Name: event + ", " + kindName(kind)}, bench.Line{Name: event + ", " + kindName(kind) + ", empty plugin"}
	for _, r := range parties {
		s := r.series[kind][event]
		row := bench.NewRow(fmt.Sprintf("%s, %s, %d known", event, kindName(kind), r.known), s.ours)
		empty := bench.NewRow("", s.other).Latency
		ratios := map[string]float64{"p50": row.Latency.P50 / empty.P50, "p99": row.Latency.P99 / empty.P99}
		row.Values = []bench.Value{
			{Name: "empty p50", Unit: "µs", Value: empty.P50}, {Name: "empty p99", Unit: "µs", Value: empty.P99},
			{Name: "ratio at p50", Value: ratios["p50"]}, {Name: "at p99", Value: ratios["p99"]},
		}
		result.Rows = append(result.Rows, row)
		for figure, ratio := range ratios {
			if w := worst[figure]; ratio > w.Ratio {
				worst[figure] = bench.Ratio{Of: row.Name, To: "empty plugin", Figure: figure, Ratio: ratio, Bar: w.Bar}
			}
		}
		x := float64(max(r.known, 1))
		ours.X, ours.Y = append(ours.X, x), append(ours.Y, row.Latency.P50)
		other.X, other.Y = append(other.X, x), append(other.Y, empty.P50)
	}
	result.Ratios = append(result.Ratios, worst["p50"], worst["p99"])
	result.Chart.Lines = append(result.Chart.Lines, ours)
	if kind == selected {
		result.Chart.Lines = append(result.Chart.Lines, other)
	}
}
