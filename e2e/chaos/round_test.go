// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

// deed is one fault as it was drawn: what to do, and a source of its own for the rest, so that what it does depends on no other.
type deed struct {
	kind string
	do   func(*rand.Rand) error
	seed uint64
}

// plan is what goes wrong in one round.
type plan struct {
	deeds []deed
	kills []time.Duration // how long each neighpin lives; none means until it is ready
	crash bool            // containerd is killed
	busy  bool            // all cores have something else to do
	pods  []bool          // that come and go: whether they are gVisor's
}

// draw draws a plan. The same source draws the same.
func (w *world) draw(random *rand.Rand, faults, kills, pods int) plan {
	p := plan{crash: pods > 0, busy: random.IntN(2) == 0}
	for range faults {
		p.deeds = append(p.deeds, w.drawDeed(random))
	}
	for range kills {
		// Half of them do not even get to be ready. It is a moment in their lives that is drawn, not a pause.
		p.kills = append(p.kills, time.Duration(random.IntN(2)*random.IntN(400))*time.Millisecond)
	}
	for range pods {
		p.pods = append(p.pods, random.IntN(3) != 0)
	}
	return p
}

func (w *world) drawDeed(random *rand.Rand) deed {
	d := deed{seed: random.Uint64()}
	switch n := random.IntN(60); {
	case n < 4:
		d.kind, d.do = "gateway's address off the bridge or back", w.segmentFault
		return d
	case n < 5:
		d.kind, d.do = "flood on the node", func(*rand.Rand) error { return flood(own(), floodLink, flooding) }
		return d
	}
	p := pick(random, w.stays)
	total := 0
	for _, f := range podFaults {
		if !f.kernel || !p.gvisor {
			total += f.weight
		}
	}
	n := random.IntN(total)
	for _, f := range podFaults {
		if f.kernel && p.gvisor {
			continue
		}
		if n -= f.weight; n < 0 {
			d.kind = f.kind
			d.do = func(random *rand.Rand) error {
				p.mu.Lock()
				defer p.mu.Unlock()
				if err := f.do(p, random); err != nil {
					return fmt.Errorf("%s, pod %s: %w", f.kind, p.Name, err)
				}
				return nil
			}
			break
		}
	}
	return d
}

// segmentFault is one at a time.
func (w *world) segmentFault(random *rand.Rand) error {
	w.segment.Lock()
	defer w.segment.Unlock()
	return segmentFault(random)
}

// run does all of a plan at once and returns when it is done; the errors are of what could not be done, and of pods that did not start.
func (w *world) run(ctx context.Context, p plan, hands, atATime int) (err error) {
	if p.busy {
		stop, started := bed.KeepCoresBusy()
		if started != nil {
			return started
		}
		w.count("cores kept busy for a round", 1)
		defer func() { err = errors.Join(err, stop()) }()
	}
	var errs []error
	var mu sync.Mutex
	var all sync.WaitGroup
	note := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	deeds := make(chan deed)
	for range hands {
		all.Go(func() {
			for d := range deeds {
				note(d.do(rand.New(rand.NewPCG(d.seed, 0))))
				w.count(d.kind, 1)
			}
		})
	}
	all.Go(func() { note(w.killAgainAndAgain(ctx, p.kills)) })
	all.Go(func() { note(w.comeAndGo(ctx, p.pods, atATime)) })
	for i, d := range p.deeds {
		deeds <- d
		if p.crash && i == len(p.deeds)/2 {
			all.Go(func() { note(w.crash(ctx)) })
		}
	}
	close(deeds)
	all.Wait()
	return errors.Join(append(errs, w.sweep(ctx))...)
}

func (w *world) count(kind string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made[kind] += n
}

// killAgainAndAgain kills neighpin at moments of its life; the last one lives.
func (w *world) killAgainAndAgain(ctx context.Context, lives []time.Duration) error {
	for _, life := range lives {
		w.kill()
		w.count("neighpin killed", 1)
		d, err := w.launch()
		if err != nil {
			return err
		}
		if life == 0 {
			if err := ready(ctx, d); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(life):
		}
		if err := d.Running(); err != nil {
			return err
		}
	}
	return nil
}

// crash kills containerd and starts it again, between two calls of its CRI.
func (w *world) crash(ctx context.Context) error {
	w.cri.Lock()
	defer w.cri.Unlock()
	w.count("containerd killed", 1)
	bed.KillContainerd()
	return bed.RestartContainerd(ctx, nil)
}

// most is how many pods that came are kept for the look at the end of a round.
const most = 6

// comeAndGo runs pods with a container each, and removes all but a few. None may fail.
func (w *world) comeAndGo(ctx context.Context, gvisor []bool, atATime int) error {
	var errs []error
	var mu sync.Mutex
	var all sync.WaitGroup
	places := make(chan struct{}, atATime)
	for i, guest := range gvisor {
		places <- struct{}{}
		all.Go(func() {
			err := w.pass(ctx, guest, i >= len(gvisor)-most)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			<-places
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// pass runs one pod, and removes it unless it is kept.
func (w *world) pass(ctx context.Context, gvisor, kept bool) error {
	p := &pod{gvisor: gvisor, passing: true}
	err := w.call(ctx, func() (err error) {
		p.Pod, err = bed.RunPod(ctx, spec(gvisor, ""))
		return err
	})
	if err == nil {
		err = w.call(ctx, func() error { return p.contain(ctx) })
	}
	if errors.Is(err, errFroze) {
		return nil // it does not count, and is swept
	}
	if err != nil && p.Pod != nil && givenUp(p.ID) {
		w.count("sandbox that containerd gave up when it started again", 1)
		return nil
	}
	if err != nil {
		return err
	}
	w.count("pod started", 1)
	w.mu.Lock()
	w.comes = append(w.comes, p)
	w.mu.Unlock()
	if kept {
		return nil
	}
	return w.leave(ctx, p)
}

// leave removes a pod.
func (w *world) leave(ctx context.Context, p *pod) error {
	w.mu.Lock()
	w.comes = slices.DeleteFunc(w.comes, func(o *pod) bool { return o == p })
	w.mu.Unlock()
	// The container first, as the kubelet has it. containerd 2.4 takes a lock twice where a sandbox is removed with its containers
	// (RemovePodSandbox, RemoveContainer: BlockPluginSync), and with an NRI plugin that registers between the two it stands still for ever.
	// And again and again, as the kubelet does: a machine that has too much to do answers too late.
	err := await.Within(ctx, 4*patience, "the removal of pod "+p.Name, func() error {
		err := w.call(ctx, func() error { return errors.Join(p.container.Stop(ctx), p.container.Remove(ctx)) })
		if err != nil {
			return err
		}
		return w.call(ctx, func() error { return p.Remove(ctx) })
	})
	if err != nil {
		return err
	}
	w.count("pod stopped", 1)
	return nil
}
