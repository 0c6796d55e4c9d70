// SPDX-License-Identifier: Apache-2.0

package nritrip

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	nrilog "github.com/containerd/nri/pkg/log"
)

// Events that are measured, by the names that neighpin's metrics have for them.
const (
	runPodSandbox   = "RunPodSandbox"
	createContainer = "CreateContainer"
)

func events() []string { return []string{runPodSandbox, createContainer} }

// runtime is the runtime's side of NRI, with one plugin.
type runtime struct {
	nri    *adaptation.Adaptation
	socket string
}

// quiet silences the library, which has one logger for all. Who uses it may not be disturbed, so that it is set once.
func quiet() {
	if _, done := nrilog.Get().(silent); !done { //nolint:forbidigo // there is no other
		nrilog.Set(silent{}) //nolint:forbidigo // there is no other
	}
}

// startRuntime serves plugins at a socket. known are the pods that it has already, which it tells each plugin of.
func startRuntime(socket string, known []*api.PodSandbox) (*runtime, error) {
	quiet()
	folder := socket + ".d"
	// It says that it is the release that is measured elsewhere: neighpin's answers depend on that.
	nri, err := adaptation.New("containerd", "v2.4.0",
		func(ctx context.Context, sync adaptation.SyncCB) error {
			_, err := sync(ctx, known, nil)
			return err
		},
		func(context.Context, []*api.ContainerUpdate) ([]*api.ContainerUpdate, error) { return nil, nil },
		adaptation.WithSocketPath(socket), adaptation.WithPluginPath(folder+"/plugins"), adaptation.WithPluginConfigPath(folder+"/conf.d"))
	if err != nil {
		return nil, fmt.Errorf("prepare the runtime's side of NRI: %w", err)
	}
	if err := nri.Start(); err != nil {
		return nil, fmt.Errorf("start the runtime's side of NRI: %w", err)
	}
	return &runtime{nri: nri, socket: socket}, nil
}

func (r *runtime) stop() { r.nri.Stop() }

// settle returns when the plugin that has been synchronized is in the adaptation's list, which is a moment later.
func (r *runtime) settle() { r.nri.BlockPluginSync().Unblock() }

// run relays a sandbox's start, and returns how long that took.
func (r *runtime) run(ctx context.Context, pod *api.PodSandbox) (time.Duration, error) {
	request := &api.RunPodSandboxRequest{Pod: pod}
	began := time.Now()
	err := r.nri.RunPodSandbox(ctx, request)
	return time.Since(began), err
}

// create relays a container's creation, and returns how long that took and what the plugin changes.
func (r *runtime) create(ctx context.Context, pod *api.PodSandbox, container *api.Container) (time.Duration, *api.ContainerAdjustment, error) {
	request := &api.CreateContainerRequest{Pod: pod, Container: container}
	began := time.Now()
	response, err := r.nri.CreateContainer(ctx, request)
	return time.Since(began), response.GetAdjust(), err
}

// end relays a sandbox's end.
func (r *runtime) end(ctx context.Context, pod *api.PodSandbox) error {
	if err := r.nri.StopPodSandbox(ctx, &api.StopPodSandboxRequest{Pod: pod}); err != nil {
		return err
	}
	return r.nri.RemovePodSandbox(ctx, &api.RemovePodSandboxRequest{Pod: pod})
}
