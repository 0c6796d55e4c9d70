// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	nrilog "github.com/containerd/nri/pkg/log"
)

// handler is the pods' runtime handler.
const handler = "pinned"

// runtime is the runtime's side of NRI, with one plugin.
type runtime struct {
	nri  *adaptation.Adaptation
	took chan time.Duration // what it took a plugin to be synchronized

	mu    sync.Mutex        // guards known, which the adaptation's goroutine reads
	known []*api.PodSandbox // that a plugin is told of
}

// startRuntime serves plugins at a socket.
func startRuntime(socket string) (*runtime, error) {
	nrilog.Set(silent{}) //nolint:forbidigo // there is no other
	r := &runtime{took: make(chan time.Duration, 1)}
	var err error
	r.nri, err = adaptation.New("benchmark", "v1.0.0", r.synchronize,
		func(context.Context, []*api.ContainerUpdate) ([]*api.ContainerUpdate, error) { return nil, nil },
		adaptation.WithSocketPath(socket), adaptation.WithPluginPath(socket+".d/plugins"), adaptation.WithPluginConfigPath(socket+".d/conf.d"))
	if err != nil {
		return nil, fmt.Errorf("prepare the runtime's side of NRI: %w", err)
	}
	if err := r.nri.Start(); err != nil {
		return nil, fmt.Errorf("start the runtime's side of NRI: %w", err)
	}
	return r, nil
}

func (r *runtime) synchronize(ctx context.Context, sync adaptation.SyncCB) error {
	r.mu.Lock()
	known := r.known
	r.mu.Unlock()
	began := time.Now()
	if _, err := sync(ctx, known, nil); err != nil {
		return err // the plugin registers again
	}
	took := time.Since(began)
	r.expect()
	r.took <- took
	return nil
}

// expect forgets of plugins before the next one.
func (r *runtime) expect() {
	select {
	case <-r.took:
	default:
	}
}

// synchronized waits for a plugin that was started, and returns how long it took to answer.
func (r *runtime) synchronized(ctx context.Context) (time.Duration, error) {
	select {
	case took := <-r.took:
		r.nri.BlockPluginSync().Unblock() // it is in the adaptation's list a moment later
		return took, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for a plugin to be synchronized: %w", ctx.Err())
	}
}

// start relays a pod's start and that of its first container, and returns how long the plugin took.
func (r *runtime) start(ctx context.Context, p *pod) (time.Duration, error) {
	sandbox := p.sandbox()
	began := time.Now()
	if err := r.nri.RunPodSandbox(ctx, &api.RunPodSandboxRequest{Pod: sandbox}); err != nil {
		return 0, fmt.Errorf("relay the start of pod %d: %w", p.number, err)
	}
	container := &api.Container{Id: "c" + sandbox.Id[1:], PodSandboxId: sandbox.Id, Name: "main"}
	if _, err := r.nri.CreateContainer(ctx, &api.CreateContainerRequest{Pod: sandbox, Container: container}); err != nil {
		return 0, fmt.Errorf("relay the creation of pod %d's container: %w", p.number, err)
	}
	return time.Since(began), nil
}

// sandbox is NRI's word for a pod, with what the kubelet adds to every one.
func (p *pod) sandbox() *api.PodSandbox {
	name, uid := fmt.Sprintf("web-6c8f9d7b5-%05d", p.number), fmt.Sprintf("4c3f7d52-5d0e-4b8e-9a43-%012d", p.number)
	return &api.PodSandbox{
		Id: fmt.Sprintf("%064x", 0x5eed<<40+p.number), Name: name, Namespace: "shop", Uid: uid, RuntimeHandler: handler,
		Labels: map[string]string{
			"app": "web", "pod-template-hash": "6c8f9d7b5",
			"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": uid,
		},
		Annotations: map[string]string{
			"kubernetes.io/config.seen": "2026-01-01T00:00:00.000000000Z", "kubernetes.io/config.source": "api",
			"prometheus.io/scrape": "true", "prometheus.io/port": "9090",
		},
		Linux: &api.LinuxPodSandbox{
			CgroupParent: "/kubepods/burstable/pod" + uid,
			Namespaces:   []*api.LinuxNamespace{{Type: "ipc"}, {Type: "pid"}, {Type: "mount"}, {Type: "uts"}, {Type: "network", Path: p.path}},
		},
		Pid: 4242,
	}
}

// tell sets the pods that the next plugin is told of.
func (r *runtime) tell(pods []*pod) {
	var known []*api.PodSandbox
	for _, p := range pods {
		known = append(known, p.sandbox())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = known
}

func (r *runtime) stop() { r.nri.Stop() }

// silent is a logger for what has nothing to say.
type silent struct{}

// Debugf says nothing.
func (silent) Debugf(context.Context, string, ...any) {}

// Infof says nothing.
func (silent) Infof(context.Context, string, ...any) {}

// Warnf says nothing.
func (silent) Warnf(context.Context, string, ...any) {}

// Errorf says nothing.
func (silent) Errorf(context.Context, string, ...any) {}
