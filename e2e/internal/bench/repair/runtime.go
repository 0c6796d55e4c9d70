// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/api"

	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/pkg/annotation"
)

// handler is the runtime handler of all pods.
const handler = "runc"

// runtime is the runtime's side of NRI, which has the pods of a segment.
type runtime struct {
	*rig.Runtime
	pods []*api.PodSandbox
	made int
}

// startRuntime serves plugins at a socket.
func startRuntime(socket string, s *segment) (*runtime, error) {
	served, err := rig.StartRuntime(socket, "repair", "v2.0.0")
	if err != nil {
		return nil, err
	}
	r := &runtime{Runtime: served}
	var containers []*api.Container
	for i, p := range s.pods {
		word := rig.Sandbox("sandbox-of-"+p.name, i, handler, p.Path)
		r.pods = append(r.pods, word)
		containers = append(containers, &api.Container{Id: "first-of-" + p.name, PodSandboxId: word.Id, Name: "app"})
	}
	r.Tell(r.pods, containers)
	return r, nil
}

// ask sends one event about some pod, in turns of the two that every pod's start has, and returns how long the answer took.
func (r *runtime) ask(ctx context.Context) (time.Duration, error) {
	r.made++
	pod := r.pods[(r.made*7919)%len(r.pods)] // 7919 is a prime: all come, and no two neighbors
	if r.made%2 == 0 {
		return r.Run(ctx, pod)
	}
	took, adjust, err := r.Create(ctx, pod, &api.Container{Id: fmt.Sprintf("container-%d", r.made), PodSandboxId: pod.GetId(), Name: "app"})
	if err != nil {
		return 0, err
	}
	a, err := annotation.Parse(adjust.GetAnnotations()[annotation.Key])
	if err == nil && len(a.Neighbors) != len(gateways()) {
		err = fmt.Errorf("look at the annotation of %s: it has %d neighbors, want %d", pod.GetName(), len(a.Neighbors), len(gateways()))
	}
	return took, err
}

// pods start one after the other: so many events in a second.
const eventPause = 2 * time.Millisecond

// traffic is a runtime that starts pods until it is stopped.
type traffic struct {
	stop  context.CancelFunc
	done  sync.WaitGroup
	took  []time.Duration
	error error
}

// begin has events sent, with a pause between two.
func (r *runtime) begin(ctx context.Context) *traffic {
	ctx, stop := context.WithCancel(ctx)
	t := &traffic{stop: stop}
	t.done.Go(func() {
		pause := time.NewTicker(eventPause)
		defer pause.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-pause.C:
			}
			// One under way is answered before the end.
			took, err := r.ask(context.WithoutCancel(ctx))
			if err != nil {
				t.error = fmt.Errorf("ask neighpin about a pod: %w", err)
				return
			}
			t.took = append(t.took, took)
		}
	})
	return t
}

// end stops it and returns how long each answer took.
func (t *traffic) end() ([]time.Duration, error) {
	t.stop()
	t.done.Wait()
	return t.took, t.error
}
