// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/nri/pkg/api"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// home is where everything of this section is; an enclosure's /run is its own.
const home = "/run/neighpin-scale"

// full is how many sandboxes the promises are about.
const full = 10000

// What is promised of a node with that many.
const (
	barResident    = 48      // MiB
	barHeap        = 2       // KiB for each sandbox
	barIdle        = 0.1     // percent of a processor
	barDescriptors = 0       // more than without sandboxes
	barSynchronize = 500     // ms
	barStart       = 2       // s
	mebibyte       = 1 << 20 // bytes
)

// Scale measures the daemon with many sandboxes.
func Scale() bench.Section {
	return bench.Section{Name: "scale", Title: "up to ten thousand sandboxes on one node",
		Run: func(ctx context.Context, env bench.Env) (bench.Result, error) {
			counts := []int{10, 100, 1000, full}
			if env.Short {
				counts = []int{10, 100, 500}
			}
			return run(ctx, env, counts)
		}}
}

func run(ctx context.Context, env bench.Env, counts []int) (result bench.Result, err error) {
	programs, err := setup.FromEnvironment()
	if err != nil {
		return result, err
	}
	c, err := newCluster(home)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, c.remove()) }()
	count, began := counts[len(counts)-1], time.Now()
	if err := c.make(ctx, count); err != nil {
		return result, err
	}
	env.Say("%d pods made in %.1f s", count, time.Since(began).Seconds())
	r, err := rig.StartRuntime(filepath.Join(home, "nri.sock"), "benchmark", "v1.0.0")
	if err != nil {
		return result, err
	}
	defer r.Close()
	b := &bed{env: env, program: programs.Neighpin(), cluster: c, runtime: r}
	defer func() {
		if b.daemon != nil {
			err = errors.Join(err, b.daemon.Close())
		}
	}()
	for _, step := range []func(context.Context) error{b.begin, func(ctx context.Context) error { return b.grow(ctx, counts) }, b.restart, b.takeOver} {
		if err := step(ctx); err != nil {
			return result, err
		}
	}
	return b.result()
}

// bed is what the section's steps share.
type bed struct {
	env     bench.Env
	program string
	cluster *cluster
	runtime *rig.Runtime
	daemon  *daemon

	base                size // without sandboxes
	stages              []stage
	restarted, takeover fresh
}

// stage is what was measured with that many sandboxes.
type stage struct {
	count   int
	size    size
	starts  []time.Duration // of pods, each with a container
	repairs []time.Duration
	cpu     time.Duration // of the daemon, for a repair
	idle    float64       // percent of a processor; of the last stage only
}

// fresh is what was measured of a daemon that begins with all sandboxes.
type fresh struct {
	ready, synchronized time.Duration
	cpu                 time.Duration // of the daemon, until it was ready
	size                size
	idle                float64
}

// start starts the daemon and waits until it is ready.
func (b *bed) start(ctx context.Context) (f fresh, err error) {
	b.runtime.Expect()
	began := time.Now()
	if b.daemon, err = startDaemon(b.program, home, b.runtime.Socket, b.cluster); err != nil {
		return f, err
	}
	if err := b.daemon.Ready(ctx); err != nil {
		return f, err
	}
	f.ready = time.Since(began)
	if f.cpu, err = b.daemon.Processor(); err != nil {
		return f, err
	}
	if f.synchronized, err = b.runtime.Synchronized(ctx); err != nil {
		return f, err
	}
	return f, nil
}

func (b *bed) end() error {
	d := b.daemon
	b.daemon = nil
	return d.Close()
}

// begin measures the daemon without sandboxes.
func (b *bed) begin(ctx context.Context) error {
	f, err := b.start(ctx)
	if err == nil {
		err = b.daemon.rest(ctx)
	}
	if err != nil {
		return err
	}
	b.base, err = b.daemon.measure(ctx)
	b.env.Say("without sandboxes: ready after %v", f.ready.Round(time.Millisecond))
	return err
}

// grow starts pods and measures at each of the counts.
func (b *bed) grow(ctx context.Context, counts []int) error {
	for _, count := range counts {
		began := time.Now()
		shown, err := b.cluster.show(count)
		if err != nil {
			return err
		}
		s := stage{count: count}
		for _, p := range shown {
			took, err := b.startPod(ctx, p)
			if err != nil {
				return err
			}
			s.starts = append(s.starts, took)
		}
		started := time.Since(began)
		if err := b.daemon.settled(ctx, b.cluster.pods); err != nil {
			return err
		}
		b.env.Say("%d pods started in %.1f s", len(shown), started.Seconds())
		if err := b.repair(ctx, &s); err != nil {
			return err
		}
		if count == counts[len(counts)-1] { // at rest, as repair leaves it
			if s.idle, err = b.idle(ctx); err != nil {
				return err
			}
		}
		if s.size, err = b.daemon.measure(ctx); err != nil {
			return err
		}
		s.starts = s.starts[max(0, len(s.starts)-200):] // those of about that many known
		b.stages = append(b.stages, s)
	}
	return nil
}

// startPod relays a pod's start and that of its first container, and returns how long the plugin took.
func (b *bed) startPod(ctx context.Context, p *pod) (time.Duration, error) {
	word := p.sandbox()
	ran, err := b.runtime.Run(ctx, word)
	if err != nil {
		return 0, fmt.Errorf("relay the start of pod %d: %w", p.number, err)
	}
	created, _, err := b.runtime.Create(ctx, word, &api.Container{Id: "c" + word.Id[1:], PodSandboxId: word.Id, Name: "main"})
	if err != nil {
		return 0, fmt.Errorf("relay the creation of pod %d's container: %w", p.number, err)
	}
	return ran + created, nil
}

// repair takes pins away, from one pod after the other, and measures how they come back.
func (b *bed) repair(ctx context.Context, s *stage) error {
	if err := b.daemon.rest(ctx); err != nil {
		return err
	}
	rounds := b.env.Rounds(100, 40)
	before, err := b.daemon.Processor()
	if err != nil {
		return err
	}
	for i := range rounds {
		took, err := b.cluster.pods[i*len(b.cluster.pods)/rounds].repaired(ctx)
		if err != nil {
			return b.daemon.Explain(err)
		}
		s.repairs = append(s.repairs, took)
	}
	// What it does after a pin is back, such as to look once more, is part of it.
	if err := b.daemon.rest(ctx); err != nil {
		return err
	}
	after, err := b.daemon.Processor()
	s.cpu = (after - before) / time.Duration(rounds)
	return err
}

// idle measures a daemon that has nothing to do.
func (b *bed) idle(ctx context.Context) (float64, error) {
	return b.daemon.idle(ctx, time.Duration(b.env.Rounds(10000, 2000))*time.Millisecond)
}

// restart starts the daemon with a record of every sandbox.
func (b *bed) restart(ctx context.Context) error {
	return b.again(ctx, &b.restarted, "with all records")
}

// takeOver starts it without any record: all sandboxes are there, and it has never heard of them.
func (b *bed) takeOver(ctx context.Context) error {
	if err := os.RemoveAll(filepath.Join(home, "state")); err != nil {
		return fmt.Errorf("remove the records: %w", err)
	}
	return b.again(ctx, &b.takeover, "without records")
}

func (b *bed) again(ctx context.Context, f *fresh, how string) (err error) {
	if b.daemon != nil {
		if err := b.end(); err != nil {
			return err
		}
	}
	var known []*api.PodSandbox
	for _, p := range b.cluster.pods {
		known = append(known, p.sandbox())
	}
	b.runtime.Tell(known, nil)
	began := time.Now()
	if *f, err = b.start(ctx); err != nil {
		return err
	}
	var rested time.Duration
	if err = b.daemon.looked(ctx, b.cluster.pods, func(ctx context.Context) (err error) {
		rested = time.Since(began)
		if f.idle, err = b.idle(ctx); err == nil {
			f.size, err = b.daemon.measure(ctx)
		}
		return err
	}); err != nil {
		return err
	}
	if b.env.Profiles != "" {
		err = b.daemon.Save(ctx, "/debug/pprof/heap?gc=1", filepath.Join(b.env.Profiles, "scale-heap-"+strings.ReplaceAll(how, " ", "-")+".pprof"))
	}
	b.env.Say("%s: ready after %.2f s, of which it had a processor for %.2f s, synchronized in %.0f ms, at rest after %.1f s", how,
		f.ready.Seconds(), f.cpu.Seconds(), 1e3*f.synchronized.Seconds(), rested.Seconds())
	return errors.Join(err, b.end())
}
