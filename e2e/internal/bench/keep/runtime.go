// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"context"
	"fmt"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	nrilog "github.com/containerd/nri/pkg/log"
)

// runtime is the runtime's side of NRI: the library that containerd has in itself.
type runtime struct {
	nri    *adaptation.Adaptation
	socket string
	pods   []*api.PodSandbox // that a plugin is told of when it comes
}

// startRuntime serves plugins at a socket.
func startRuntime(socket string) (*runtime, error) {
	if _, done := nrilog.Get().(silent); !done { //nolint:forbidigo // there is no other
		nrilog.Set(silent{}) //nolint:forbidigo // there is no other
	}
	r := &runtime{socket: socket}
	var err error
	r.nri, err = adaptation.New("keep", "v0.1.0",
		func(ctx context.Context, sync adaptation.SyncCB) error {
			_, err := sync(ctx, r.pods, nil)
			return err
		},
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

func (r *runtime) Close() error {
	r.nri.Stop()
	return nil
}

// run tells of a pod that starts. It returns when the plugin has answered, which it does when the pod is pinned.
func (r *runtime) run(ctx context.Context, pod *api.PodSandbox) error {
	return r.nri.RunPodSandbox(ctx, &api.RunPodSandboxRequest{Pod: pod})
}

// settle returns when a plugin that says it is synchronized gets events, which is a moment later.
func (r *runtime) settle() { r.nri.BlockPluginSync().Unblock() }

// silent is a logger that has nothing to say.
type silent struct{}

func (silent) Debugf(context.Context, string, ...any) {}
func (silent) Infof(context.Context, string, ...any)  {}
func (silent) Warnf(context.Context, string, ...any)  {}
func (silent) Errorf(context.Context, string, ...any) {}
