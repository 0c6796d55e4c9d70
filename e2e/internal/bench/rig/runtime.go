// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	nrilog "github.com/containerd/nri/pkg/log"
)

// patience bounds each answer of a plugin.
const patience = time.Minute

// Runtime is the runtime's side of NRI: the library by which containerd serves it, in this process, for one plugin at a time.
type Runtime struct {
	Socket string // where plugins connect

	nri  *adaptation.Adaptation
	took chan time.Duration // what it took a plugin to be synchronized

	mu         sync.Mutex // guards the following, which the library's goroutine reads
	pods       []*api.PodSandbox
	containers []*api.Container
}

// StartRuntime serves plugins at a socket, and tells them that it is the runtime of that name and version, on which neighpin's
// answers depend.
func StartRuntime(socket, name, version string) (*Runtime, error) {
	// The library has one logger for all, and who uses it may not be disturbed.
	if _, done := nrilog.Get().(Silent); !done { //nolint:forbidigo // there is no other
		nrilog.Set(Silent{}) //nolint:forbidigo // there is no other
	}
	// How long a plugin takes is measured, or is none of a section's business: that the library waits two seconds for it would end both.
	adaptation.SetPluginRegistrationTimeout(patience)
	adaptation.SetPluginRequestTimeout(patience)
	r := &Runtime{Socket: socket, took: make(chan time.Duration, 1)}
	var err error
	r.nri, err = adaptation.New(name, version, r.synchronize,
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

// Close ends it. It is a [io.Closer], and never fails.
func (r *Runtime) Close() error {
	r.nri.Stop()
	return nil
}

// Tell sets the pods and containers that the next plugin is told of.
func (r *Runtime) Tell(pods []*api.PodSandbox, containers []*api.Container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pods, r.containers = pods, containers
}

func (r *Runtime) synchronize(ctx context.Context, sync adaptation.SyncCB) error {
	r.mu.Lock()
	pods, containers := r.pods, r.containers
	r.mu.Unlock()
	began := time.Now()
	if _, err := sync(ctx, pods, containers); err != nil {
		return err // the plugin registers again
	}
	took := time.Since(began)
	r.Expect()
	r.took <- took
	return nil
}

// Expect forgets of the plugins that came before the next one.
func (r *Runtime) Expect() {
	select {
	case <-r.took:
	default:
	}
}

// Synchronized waits for a plugin that was started, and returns how long it took to answer Synchronize.
func (r *Runtime) Synchronized(ctx context.Context) (time.Duration, error) {
	select {
	case took := <-r.took:
		r.Settle()
		return took, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for a plugin to be synchronized: %w", ctx.Err())
	}
}

// Settle returns when a plugin that has been synchronized is in the library's list, which is a moment later.
func (r *Runtime) Settle() { r.nri.BlockPluginSync().Unblock() }

// Run relays a sandbox's start, and returns how long that took.
func (r *Runtime) Run(ctx context.Context, pod *api.PodSandbox) (time.Duration, error) {
	request := &api.RunPodSandboxRequest{Pod: pod}
	began := time.Now()
	err := r.nri.RunPodSandbox(ctx, request)
	return time.Since(began), err
}

// Create relays a container's creation, and returns how long that took and what the plugin changes.
func (r *Runtime) Create(ctx context.Context, pod *api.PodSandbox, container *api.Container) (time.Duration, *api.ContainerAdjustment, error) {
	request := &api.CreateContainerRequest{Pod: pod, Container: container}
	began := time.Now()
	response, err := r.nri.CreateContainer(ctx, request)
	return time.Since(began), response.GetAdjust(), err
}

// End relays a sandbox's end.
func (r *Runtime) End(ctx context.Context, pod *api.PodSandbox) error {
	if err := r.nri.StopPodSandbox(ctx, &api.StopPodSandboxRequest{Pod: pod}); err != nil {
		return err
	}
	return r.nri.RemovePodSandbox(ctx, &api.RemovePodSandboxRequest{Pod: pod})
}

// Silent is a logger of NRI's that has nothing to say.
type Silent struct{}

// Debugf says nothing.
func (Silent) Debugf(context.Context, string, ...any) {}

// Infof says nothing.
func (Silent) Infof(context.Context, string, ...any) {}

// Warnf says nothing.
func (Silent) Warnf(context.Context, string, ...any) {}

// Errorf says nothing.
func (Silent) Errorf(context.Context, string, ...any) {}
