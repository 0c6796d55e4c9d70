// SPDX-License-Identifier: Apache-2.0

package margin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// longest bounds the time in which the pods of one release are begun.
const longest = 50 * time.Second

// load is what pods start under.
type load struct {
	releases []string // of containerd, one after the other
	pods     int      // on each
	atATime  int
	busy     bool // a process per core computes
}

// Margin is the section.
func Margin() bench.Section {
	return bench.Section{Name: "margin", Title: "gVisor pods, 8 at a time, all cores busy: how near a pin comes to being late",
		Run: func(ctx context.Context, env bench.Env) (bench.Result, error) {
			return measure(ctx, env, load{releases: []string{setup.Oldest, setup.Newest}, pods: env.Rounds(100, 4), atATime: 8, busy: true})
		}}
}

// measure starts pods on each release of containerd.
func measure(ctx context.Context, env bench.Env, l load) (result bench.Result, err error) {
	programs, err := setup.FromEnvironment()
	if err != nil {
		return result, err
	}
	for _, release := range l.releases {
		env.Say("containerd %s: %d pods, %d at a time", release, l.pods, l.atATime)
		samples, err := onRelease(ctx, programs, release, l)
		if err != nil {
			return result, fmt.Errorf("measure on containerd %s: %w", release, err)
		}
		add(&result, release, samples, l.pods)
	}
	result.Notes = append(result.Notes,
		"CNI's result is written when containerd makes its file in libcni's cache, by the time of its birth, which can be a tick of the kernel early; the pin is "+
			"acknowledged at the time in neighpin's record; the runtime looks when runsc's log says that it copies the first neighbor",
		"smallest by the record: as neighpin saw it, by the kernel's message that the runtime had taken the first address",
		"every pod has run a container, and of those in time runsc's log says that it copied both gateways with the address of the host's end, and nothing else")
	return result, nil
}

// onRelease starts pods on one release, on a node of their own.
func onRelease(ctx context.Context, programs setup.Programs, release string, l load) (samples []sample, err error) {
	if programs, err = programs.Of(release); err != nil {
		return nil, err
	}
	n, err := node.Start(ctx, programs, node.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Close(context.WithoutCancel(ctx))) }()
	d, err := n.StartDaemon(node.DaemonOptions{})
	if err != nil {
		return nil, err
	}
	if err := d.Ready(ctx); err != nil {
		return nil, errors.Join(err, d.Kill())
	}
	stop := func() error { return nil }
	if l.busy {
		if stop, err = n.KeepCoresBusy(); err != nil {
			return nil, errors.Join(err, d.Kill())
		}
	}
	samples, err = start(ctx, n, d, l)
	return samples, errors.Join(err, stop(), d.Stop(context.WithoutCancel(ctx)))
}

// add describes the pods of one release. Those that were pinned too late, or never, are counted and in no distribution.
func add(result *bench.Result, release string, samples []sample, wanted int) {
	var pins, margins []time.Duration
	counts := map[string]int{}
	smallest, recorded := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for _, s := range samples {
		counts[s.verdict]++
		smallest, recorded = min(smallest, s.margin), min(recorded, s.recorded)
		if s.margin > 0 {
			pins, margins = append(pins, s.toPin), append(margins, s.margin)
		}
	}
	of := "containerd " + release
	result.Rows = append(result.Rows,
		bench.NewRow(of+": CNI's result to pin", pins),
		bench.NewRow(of+": pin to the runtime's look", margins,
			bench.Value{Name: "smallest", Unit: "ms", Value: milliseconds(smallest)},
			bench.Value{Name: "smallest by the record", Unit: "ms", Value: milliseconds(recorded)},
			bench.Value{Name: "in time", Value: float64(counts[inTime])}))
	result.Limits = append(result.Limits,
		bench.Limit{Of: of, Figure: "pods that were late or without proof", Value: float64(len(samples) - counts[inTime])})
	if len(samples) < wanted {
		result.Notes = append(result.Notes, fmt.Sprintf("%s: %d pods instead of %d, as many as were begun in %v", of, len(samples), wanted, longest))
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
