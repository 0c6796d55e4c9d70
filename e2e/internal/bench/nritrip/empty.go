// SPDX-License-Identifier: Apache-2.0

package nritrip

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"

	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
)

// Child is the argument by which this program is started as a plugin that does nothing: see RunChild.
const Child = "nri-empty"

// empty subscribes to what neighpin subscribes to, and counts.
type empty struct {
	calls  map[string]int
	synced chan struct{}
}

// Synchronize takes what is there.
func (e *empty) Synchronize(context.Context, []*api.PodSandbox, []*api.Container) ([]*api.ContainerUpdate, error) {
	close(e.synced) // there is one runtime, which does not go away
	return nil, nil
}

// RunPodSandbox does nothing.
func (e *empty) RunPodSandbox(context.Context, *api.PodSandbox) error {
	e.calls[runPodSandbox]++ // the runtime asks one thing at a time
	return nil
}

// CreateContainer does nothing.
func (e *empty) CreateContainer(context.Context, *api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	e.calls[createContainer]++
	return nil, nil, nil
}

// StopPodSandbox does nothing.
func (e *empty) StopPodSandbox(context.Context, *api.PodSandbox) error { return nil }

// RemovePodSandbox does nothing.
func (e *empty) RemovePodSandbox(context.Context, *api.PodSandbox) error { return nil }

// RunChild is that plugin, for the socket that is the only argument. It says when it is synchronized, and at the end of its
// input how often it was called.
func RunChild(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("run the empty plugin: want the path of NRI's socket")
	}
	plugin := &empty{calls: make(map[string]int), synced: make(chan struct{})}
	s, err := stub.New(plugin, stub.WithSocketPath(args[0]), stub.WithPluginName("empty"), stub.WithPluginIdx("10"), stub.WithLogger(rig.Silent{}))
	if err != nil {
		return fmt.Errorf("prepare the empty plugin: %w", err)
	}
	if err := s.Start(ctx); err != nil {
		return fmt.Errorf("start the empty plugin: %w", err)
	}
	<-plugin.synced
	said := json.NewEncoder(os.Stdout)
	if err := said.Encode("synchronized"); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Stop()
	return said.Encode(plugin.calls)
}

// startEmpty starts one and returns when it is synchronized.
func startEmpty(ctx context.Context, socket string) (*rig.Child, error) {
	child, err := rig.StartChild("the empty plugin", exec.CommandContext(ctx, "/proc/self/exe", Child, socket))
	if err != nil {
		return nil, err
	}
	var word string
	if err := child.Receive(&word); err != nil {
		return nil, errors.Join(err, child.Close(nil))
	}
	return child, nil
}
