// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	nrilog "github.com/containerd/nri/pkg/log"

	"github.com/neighpin/neighpin/pkg/annotation"
)

// handler is the runtime handler of all pods.
const handler = "runc"

// runtime is the runtime's side of NRI, which has the pods of a segment.
type runtime struct {
	nri  *adaptation.Adaptation
	pods []*api.PodSandbox
	made int
}

// startRuntime serves plugins at a socket.
func startRuntime(socket string, s *segment) (*runtime, error) {
	nrilog.Set(silent{}) //nolint:forbidigo // the library has one for all
	r := &runtime{}
	var containers []*api.Container
	for _, p := range s.pods {
		r.pods = append(r.pods, &api.PodSandbox{
			Id: "sandbox-of-" + p.name, Name: p.name, Namespace: "shop", Uid: "uid-of-" + p.name, RuntimeHandler: handler,
			Linux: &api.LinuxPodSandbox{Namespaces: []*api.LinuxNamespace{{Type: "pid"}, {Type: "network", Path: p.path}}},
		})
		containers = append(containers, &api.Container{Id: "first-of-" + p.name, PodSandboxId: "sandbox-of-" + p.name, Name: "app"})
	}
	synchronize := func(ctx context.Context, sync adaptation.SyncCB) error {
		_, err := sync(ctx, r.pods, containers)
		return err
	}
	var err error
	r.nri, err = adaptation.New("repair", "v2.0.0", synchronize,
		func(context.Context, []*api.ContainerUpdate) ([]*api.ContainerUpdate, error) { return nil, nil },
		adaptation.WithSocketPath(socket), adaptation.WithPluginPath(socket+".d/plugins"), adaptation.WithPluginConfigPath(socket+".d/conf.d"))
	if err == nil {
		err = r.nri.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the runtime's side of NRI: %w", err)
	}
	return r, nil
}

// settle returns when a plugin that is synchronized gets events, which is a moment later.
func (r *runtime) settle() { r.nri.BlockPluginSync().Unblock() }

// ask sends one event about some pod, in turns of the two that every pod's start has, and returns how long the answer took.
func (r *runtime) ask(ctx context.Context) (time.Duration, error) {
	r.made++
	pod := r.pods[(r.made*7919)%len(r.pods)] // 7919 is a prime: all come, and no two neighbors
	began := time.Now()
	if r.made%2 == 0 {
		err := r.nri.RunPodSandbox(ctx, &api.RunPodSandboxRequest{Pod: pod})
		return time.Since(began), err
	}
	response, err := r.nri.CreateContainer(ctx, &api.CreateContainerRequest{Pod: pod,
		Container: &api.Container{Id: fmt.Sprintf("container-%d", r.made), PodSandboxId: pod.GetId(), Name: "app"}})
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	a, err := annotation.Parse(response.GetAdjust().GetAnnotations()[annotation.Key])
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

// silent is a logger that has nothing to say.
type silent struct{}

func (silent) Debugf(context.Context, string, ...any) {}
func (silent) Infof(context.Context, string, ...any)  {}
func (silent) Warnf(context.Context, string, ...any)  {}
func (silent) Errorf(context.Context, string, ...any) {}
