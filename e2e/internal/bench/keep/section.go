// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/nri/pkg/api"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

const (
	// never is an interval of the slow comparison that no run lives to see.
	never = time.Hour
	// usual is the default one (sandbox.DefaultCompareInterval).
	usual = 5 * time.Minute
	// noisy is the number of changes in a second that the issue of a noisy CNI is judged by, and noiseBar what share of a core, in percent,
	// they may cost.
	noisy    = 1000
	noiseBar = 1
)

// Keep measures what it costs to keep pods that run.
func Keep() bench.Section {
	return bench.Section{Name: "keep", Title: "what it costs to keep pods pinned while nothing concerns them", Run: run}
}

// plan is how much is measured.
type plan struct {
	pods   int
	window time.Duration // of each measurement
	rates  []float64     // of the noise, in changes a second; one of them is noisy
}

func run(ctx context.Context, env bench.Env) (bench.Result, error) {
	programs, err := setup.FromEnvironment()
	if err != nil {
		return bench.Result{}, err
	}
	p := plan{pods: 1000, window: 2 * time.Second, rates: []float64{noisy}}
	if env.Short {
		p = plan{pods: 100, window: time.Second, rates: []float64{noisy}}
	}
	f, err := measure(ctx, env, programs.Neighpin(), p)
	if err != nil {
		return bench.Result{}, err
	}
	return f.result(p), nil
}

// measure takes all figures of a plan.
func measure(ctx context.Context, env bench.Env, program string, p plan) (f figures, err error) {
	folder, err := os.MkdirTemp("", "keep") // short: it holds sockets
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if err := os.Mkdir(filepath.Join(folder, "netns"), 0o755); err != nil {
		return f, err
	}
	s := &stage{env: env, plan: p, program: program, folder: folder}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.set(); err != nil {
		return f, err
	}
	for _, step := range []func(context.Context, *figures) error{s.empty, s.fill, s.kept, s.compared} {
		if err := step(ctx, &f); err != nil {
			return f, err
		}
	}
	return f, nil
}

// stage is what the figures are taken of.
type stage struct {
	env     bench.Env
	plan    plan
	program string
	folder  string

	bed   *bed
	rt    *rig.Runtime
	noise *noise
	pods  []*space
	words []*api.PodSandbox // NRI's for them
}

func (s *stage) set() (err error) {
	if s.bed, err = newBed(filepath.Join(s.folder, "netns")); err != nil {
		return err
	}
	if s.rt, err = rig.StartRuntime(filepath.Join(s.folder, "nri.sock"), "keep", "v0.1.0"); err != nil {
		return err
	}
	s.noise, err = newNoise(s.bed)
	return err
}

// Close takes everything away.
func (s *stage) Close() error {
	var errs []error
	if s.rt != nil {
		errs = append(errs, s.rt.Close())
	}
	if s.bed != nil {
		errs = append(errs, s.bed.Close())
	}
	return errors.Join(errs...)
}

// with runs a daemon for as long as f takes.
func (s *stage) with(ctx context.Context, compare time.Duration, f func(*daemon) error) error {
	d, err := startDaemon(ctx, s.program, s.folder, s.rt, compare)
	if err != nil {
		return err
	}
	return errors.Join(f(d), d.Close())
}

// empty measures a daemon that has no pods.
func (s *stage) empty(ctx context.Context, f *figures) error {
	s.env.Say("a daemon without pods")
	return s.with(ctx, never, func(d *daemon) (err error) {
		if err = d.rested(ctx, 0); err == nil {
			f.idle[0], err = s.window(ctx, d, s.plan.window, 0)
		}
		if err == nil {
			f.noise[0], err = s.noises(ctx, d)
		}
		return err
	})
}

// kept measures a daemon with pods to which nothing happens, without and with noise beside them.
func (s *stage) kept(ctx context.Context, f *figures) error {
	s.env.Say("%d idle pods", len(s.pods))
	return s.with(ctx, never, func(d *daemon) (err error) {
		if err = d.rested(ctx, len(s.pods)); err == nil {
			f.idle[1], err = s.window(ctx, d, s.plan.window, 0)
		}
		if err == nil {
			f.noise[1], err = s.noises(ctx, d)
		}
		if err == nil {
			s.noise.gateway = true
			f.noise[2], err = s.noises(ctx, d)
		}
		if err == nil {
			err = s.profile(ctx, d)
		}
		if err == nil {
			err = s.hears(ctx, d)
		}
		return err
	})
}

// noises measures each rate of the noise.
func (s *stage) noises(ctx context.Context, d *daemon) (all []sample, err error) {
	for _, rate := range s.plan.rates {
		one, err := s.window(ctx, d, s.plan.window, rate)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// sample is what a daemon did in a window of time.
type sample struct {
	took, cpu time.Duration
	changes   int     // that the noise made
	heard     float64 // messages that the daemon has read
	looks     float64 // at pods
	takeovers float64 // those of them that tell of another registration
}

const (
	// settling is what a daemon is given to get over having been asked for its metrics.
	settling = 300 * time.Millisecond
	// disturbed is how often a window may show something else than what it is for. A busy machine can make NRI's side give a plugin up, which
	// then comes again and takes its pods over anew, and keep the kernel's lock on links from who makes the noise.
	disturbed = 5
)

// window watches a daemon for a while, with noise of that rate.
func (s *stage) window(ctx context.Context, d *daemon, length time.Duration, rate float64) (one sample, err error) {
	for range disturbed {
		one, err = s.watch(ctx, d, length, rate)
		quiet := float64(one.changes) < min(rate, noisy)*length.Seconds()/2
		if err != nil || one.takeovers == 0 && !quiet {
			return one, err
		}
		s.env.Say("in %v there were %d changes of %.0f a second, and %.0f takeovers: once more", one.took, one.changes, rate, one.takeovers)
	}
	return one, fmt.Errorf("measure what it costs to keep: %d times in a row there was no noise, or the daemon took its pods over anew: is the machine too busy?", disturbed)
}

func (s *stage) watch(ctx context.Context, d *daemon, length time.Duration, rate float64) (one sample, err error) {
	before, err := d.Metrics(ctx)
	if err != nil {
		return one, err
	}
	select {
	case <-ctx.Done():
		return one, ctx.Err()
	case <-time.After(settling):
	}
	began := time.Now()
	cpu, err := d.Processor()
	if err != nil {
		return one, err
	}
	during, stop := context.WithTimeout(ctx, length)
	defer stop()
	if rate > 0 {
		one.changes, err = s.noise.run(during, rate)
	}
	<-during.Done()
	if err := errors.Join(err, ctx.Err()); err != nil {
		return one, err
	}
	after, err := d.Processor()
	one.took, one.cpu = time.Since(began), after-cpu
	if err != nil {
		return one, err
	}
	now, err := d.Metrics(ctx)
	one.heard, one.looks, one.takeovers = now[messagesHeard]-before[messagesHeard], now.Looks()-before.Looks(), now[takeovers]-before[takeovers]
	return one, err
}

// hears checks that the daemon listened while it was measured: what does concern a pod leads to a look, and to the truth.
func (s *stage) hears(ctx context.Context, d *daemon) error {
	before, err := d.Metrics(ctx)
	if err != nil {
		return err
	}
	if err := s.bed.move(s.pods[len(s.pods)/2]); err != nil {
		return err
	}
	return await.Within(ctx, patience, "the daemon to tell of a gateway whose address has changed", func() error {
		now, err := d.Metrics(ctx)
		if err == nil && (now[stale]-before[stale] != 2 || now.Looks() == before.Looks()) {
			err = fmt.Errorf("%.0f stale copies more, want 2; %.0f looks", now[stale]-before[stale], now.Looks()-before.Looks())
		}
		return err
	})
}
