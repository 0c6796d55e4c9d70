// SPDX-License-Identifier: Apache-2.0

package nritrip

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/containerd/nri/pkg/api"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/bench/podstart"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/record"
)

const (
	// batch is how many pods of each kind there are at once for each party.
	batch = 4
	// patience bounds what is waited for.
	patience = time.Minute
)

// bed is what all parties share.
type bed struct {
	*podstart.Bed
	store *store
}

// pod is one that is to be measured.
type pod struct {
	kind    int
	sandbox *api.PodSandbox
	network *podstart.Pod
}

// makePods makes a batch and returns when neighpin has done with it what it does before the runtime asks: those that are selected
// are pinned, and their namespaces taken as gVisor does it.
func (r *party) makePods(ctx context.Context, b bed) (pods []*pod, err error) {
	// Those that are not selected come first. What finds a namespace's owner takes all that are there at once, so that they are
	// known when the last one is.
	for i := range kinds * batch {
		kind := unselected
		if i >= batch {
			kind = selected
		}
		p, err := r.makePod(ctx, b, kind)
		if p != nil {
			pods = append(pods, p)
		}
		if err != nil {
			return pods, err
		}
	}
	if err := r.awaitRecords(ctx, pods, "pinned", func(rec record.Record) bool { return len(rec.Neighbors) == 2 && !rec.CapturedAt.IsZero() }); err != nil {
		return pods, err
	}
	for _, p := range pods {
		if p.kind != selected {
			if err := p.network.Check(); err == nil {
				return pods, fmt.Errorf("look at %s: it is pinned, and not selected", p.network.Path)
			}
			continue
		}
		if err := errors.Join(p.network.Check(), take(p.network)); err != nil {
			return pods, err
		}
	}
	return pods, r.awaitRecords(ctx, pods, "started", func(rec record.Record) bool { return rec.Phase == record.Started })
}

func (r *party) makePod(ctx context.Context, b bed, kind int) (*pod, error) {
	r.made++
	path := filepath.Join(r.folder, "cni-"+rig.NewID()) // names are unique on a node, and neighpin relies on that
	handler, runtime := selectedHandler, selectedType
	if kind == unselected {
		handler, runtime = otherHandler, otherType
	}
	p := &pod{kind: kind, sandbox: newSandbox(r.made, handler, path)}
	if err := b.store.begin(ctx, p.sandbox, runtime); err != nil {
		return nil, err
	}
	var err error
	if p.network, err = b.NewPodAt(path); err != nil {
		return p, err
	}
	return p, b.store.finish(ctx, p.sandbox, runtime)
}

// awaitRecords waits until the records of all selected pods are as they should be.
func (r *party) awaitRecords(ctx context.Context, pods []*pod, what string, good func(record.Record) bool) error {
	records := record.In(r.state)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return await.Every(ctx, 2*time.Millisecond, "pods to be "+what, func() error {
		for _, p := range pods {
			if p.kind != selected {
				continue
			}
			rec, err := records.Load(p.sandbox.Id)
			if err != nil {
				return err
			}
			if !good(rec) {
				return fmt.Errorf("look at its record: phase %s, verdict %s, %d pins, error %q", rec.Phase, rec.Timing.Verdict, len(rec.Neighbors), rec.Error)
			}
		}
		return nil
	})
}

// measureOne asks both plugins about a pod and a container of it so many times, in this order or the other way round, and changes that
// each time: what else the machine does meets both alike.
func (r *party) measureOne(ctx context.Context, p *pod, laps int, oursFirst bool) error {
	for lap := range laps {
		c := newContainer(p.sandbox)
		for turn := range 2 {
			ours := (lap+turn)%2 == 0 == oursFirst
			took, err := r.side(ours).Run(ctx, p.sandbox)
			if err != nil {
				return fmt.Errorf("run sandbox %s: %w", p.sandbox.Id, err)
			}
			r.add(p.kind, runPodSandbox, ours, took)
		}
		for turn := range 2 {
			ours := (lap+turn)%2 == 0 == oursFirst
			took, adjust, err := r.side(ours).Create(ctx, p.sandbox, c)
			if err == nil {
				err = checkAnswer(p, ours, adjust)
			}
			if err != nil {
				return fmt.Errorf("create a container of sandbox %s (%s): %w", p.sandbox.Id, kindName(p.kind), err)
			}
			r.add(p.kind, createContainer, ours, took)
		}
	}
	return nil
}

// checkAnswer says what is wrong with an answer: neighpin annotates what it has pinned, and nothing else is changed.
func checkAnswer(p *pod, ours bool, adjust *api.ContainerAdjustment) error {
	value, annotated := adjust.GetAnnotations()[annotation.Key]
	if wanted := ours && p.kind == selected; annotated != wanted {
		return fmt.Errorf("look at the answer: annotated is %t, want %t", annotated, wanted)
	}
	if !annotated {
		return nil
	}
	a, err := annotation.Parse(value)
	if err != nil {
		return err
	}
	if len(a.Neighbors) != 2 {
		return fmt.Errorf("look at the annotation: it has %d neighbors, want 2", len(a.Neighbors))
	}
	return nil
}

func (r *party) side(ours bool) *rig.Runtime {
	if ours {
		return r.ours
	}
	return r.other
}

func (r *party) add(kind int, event string, ours bool, took time.Duration) {
	s := r.series[kind][event]
	if ours {
		s.ours = append(s.ours, took)
	} else {
		s.other = append(s.other, took)
	}
}

// removePods takes pods away, and has the runtimes say so.
func (r *party) removePods(ctx context.Context, b bed, pods []*pod) error {
	var errs []error
	for _, p := range pods {
		errs = append(errs, r.ours.End(ctx, p.sandbox), r.other.End(ctx, p.sandbox))
		if p.network != nil {
			errs = append(errs, p.network.Remove())
		}
		errs = append(errs, b.store.remove(ctx, p.sandbox.Id))
	}
	return errors.Join(errs...)
}
