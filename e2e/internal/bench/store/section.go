// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

const (
	// A kubelet lets a pod have 256 KiB of annotations, and so many of these pods alone are more than a message.
	largeAnnotations = 256 << 10
	largePods        = 64
	// bar is what the issue of a full node is about: more sandboxes than that are to be no problem.
	bar = 1000
)

// plan is how much is done.
type plan struct {
	sizes  []int         // numbers of sandboxes, ascending
	rounds int           // how often each way is gone at most
	share  time.Duration // after which one is not gone again
}

// Store measures how a new namespace's owner is found.
func Store() bench.Section {
	return bench.Section{Name: "store", Title: "a new namespace's owner in containerd's store", Run: func(ctx context.Context, env bench.Env) (bench.Result, error) {
		if env.Short {
			return run(ctx, env, plan{sizes: []int{10, 100, 500, 1000}, rounds: 5, share: 50 * time.Millisecond})
		}
		return run(ctx, env, plan{sizes: []int{10, 100, 500, 1000, 2000, 5000}, rounds: 40, share: 300 * time.Millisecond})
	}}
}

func run(ctx context.Context, env bench.Env, p plan) (result bench.Result, err error) {
	programs, err := setup.FromEnvironment()
	if err != nil {
		return result, err
	}
	env.Say("starting containerd %s", programs.Release)
	n, err := node.Start(ctx, programs, node.Options{})
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, n.Close(context.WithoutCancel(ctx))) }()
	c, err := newClient()
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	w, first, err := newWorld(ctx, n, c)
	if err != nil {
		return result, err
	}
	w.note(&result, programs.Release, first)
	return result, w.fill(ctx, env, p, &result)
}

// newWorld runs the pod that others are copied from, and tells what containerd's events say meanwhile.
func newWorld(ctx context.Context, n *node.Node, c *client) (*world, announcement, error) {
	about, err := c.product.Node(ctx)
	if err != nil {
		return nil, announcement{}, err
	}
	events, err := c.listen(ctx)
	if err != nil {
		return nil, announcement{}, err
	}
	defer events.stop()
	announced := make(chan announcement, 1)
	go func() { announced <- c.first(ctx, events) }() // ends with the event, or with the subscription
	t, err := newTemplate(ctx, n, c)
	if err != nil {
		events.stop()
		<-announced
		return nil, announcement{}, err
	}
	first := <-announced
	return &world{client: c, containerd: int(about.PID), template: t, known: map[string]bool{t.pod.ID: true}}, first, first.err
}

// fill adds sandboxes and goes every way at each number.
func (w *world) fill(ctx context.Context, env bench.Env, p plan, result *bench.Result) error {
	chart := &bench.Chart{XLabel: "sandboxes", YLabel: "ms, logarithmic", LogX: true, LogY: true}
	result.Chart = chart
	for _, way := range ways() {
		chart.Lines = append(chart.Lines, bench.Line{Name: way.name})
	}
	for _, size := range p.sizes {
		env.Say("%d sandboxes", size)
		if err := w.grow(ctx, size); err != nil {
			return err
		}
		err := w.with(ctx, func() error { return w.at(ctx, fmt.Sprint(size), p, result, chart.Lines) })
		if size == bar && err == nil {
			err = w.withLarge(ctx, largePods, largeAnnotations, func() error {
				return w.with(ctx, func() error {
					return w.at(ctx, fmt.Sprintf("%d, %d of them large", size+largePods, largePods), p, result, nil)
				})
			})
		}
		if err != nil {
			return fmt.Errorf("with %d sandboxes: %w", size, err)
		}
	}
	return w.judge(p, result)
}

// at goes every way at the number of sandboxes that there are.
func (w *world) at(ctx context.Context, label string, p plan, result *bench.Result, lines []bench.Line) error {
	all, err := w.measure(ctx, ways(), p.rounds, p.share)
	if err != nil {
		return err
	}
	for i, s := range all {
		if s.tooLarge {
			result.Notes = append(result.Notes, fmt.Sprintf("%s: %s: the answer is larger than a message of %d MiB", label, s.way.name, maxMessage>>20))
			continue
		}
		row := s.row(label)
		result.Rows = append(result.Rows, row)
		if lines != nil {
			lines[i].X = append(lines[i].X, float64(len(w.known)))
			lines[i].Y = append(lines[i].Y, row.Latency.P50/1000)
		}
	}
	return nil
}

// judge compares what neighpin does with what it did, and states how far it was seen to go.
func (w *world) judge(p plan, result *bench.Result) error {
	most := p.sizes[len(p.sizes)-1]
	result.Limits = append(result.Limits, bench.Limit{Of: oursName, Figure: "sandboxes among which a new one was found", Value: float64(most), Bar: bar, AtLeast: true})
	var err error
	for _, size := range p.sizes {
		if size < 100 {
			continue
		}
		label := fmt.Sprint(size) + ": "
		err = errors.Join(err, result.Compare(label+othersName, label+oursName, "p50", 0), result.Compare(label+othersName, label+oursName, "containerd's CPU", 0))
	}
	return err
}

// note says what is to be known about the figures.
func (w *world) note(result *bench.Result, release string, first announcement) {
	when := "before CNI's result was in the record"
	if first.ready {
		when = "when CNI's result was in the record already"
	}
	result.Notes = append(result.Notes,
		fmt.Sprintf("containerd %s; a record has %d bytes: one of a pod that ran, with a Deployment's annotations, and copies of it", release, proto.Size(w.template.record)),
		fmt.Sprintf("the first of containerd's events that named the pod was %s, which came %s", first.topic, when))
}
