// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"github.com/sirupsen/logrus"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

// events are those that neighpin subscribes to. The mask is explicit because a
// runtime refuses a plugin that asks for an event it does not know, and the
// stub would ask for every handler it finds (nri pkg/stub, setupHandlers).
var events = []api.Event{
	api.Event_RUN_POD_SANDBOX,
	api.Event_STOP_POD_SANDBOX,
	api.Event_REMOVE_POD_SANDBOX,
	api.Event_CREATE_CONTAINER,
}

// answerWithin is what one event may cost the runtime, whatever is waited for.
const answerWithin = time.Second

// handlers is one connection's side of the protocol.
type handlers struct {
	engine    *sandbox.Engine // set by Configure, before any other call
	cleansUp  bool            // set by Configure: the runtime takes a refused sandbox away
	configure func(config string) (*sandbox.Engine, error)
	onRuntime func(name, version string)
	onSync    func()
	observe   func(hook string, took time.Duration, err error)
	log       logrus.FieldLogger

	mu      sync.Mutex // guards the following
	aborted error      // why the connection was given up while it was set up
}

var (
	_ stub.ConfigureInterface       = (*handlers)(nil)
	_ stub.SynchronizeInterface     = (*handlers)(nil)
	_ stub.RunPodInterface          = (*handlers)(nil)
	_ stub.CreateContainerInterface = (*handlers)(nil)
	_ stub.StopPodInterface         = (*handlers)(nil)
	_ stub.RemovePodInterface       = (*handlers)(nil)
)

// Configure takes the plugin's configuration, which only plugins that the
// runtime launches itself are given, and returns the events wanted.
func (h *handlers) Configure(_ context.Context, config, runtime, version string) (api.EventMask, error) {
	h.mu.Lock()
	aborted := h.aborted
	h.mu.Unlock()
	if aborted != nil {
		return 0, aborted
	}
	engine, err := h.configure(config)
	if err != nil {
		return 0, fmt.Errorf("take configuration from NRI: %w", err)
	}
	h.engine = engine
	h.cleansUp = cleansUp(runtime, version)
	h.onRuntime(runtime, version)
	var mask api.EventMask
	mask.Set(events...)
	return mask, nil
}

// observed tells that an event has been handled.
func (h *handlers) observed(hook string, began time.Time, err *error) {
	var failed error
	if err != nil {
		failed = *err
	}
	h.observe(hook, time.Since(began), failed)
}

// abort makes the next Configure fail with err.
func (h *handlers) abort(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.aborted = err
}

// Synchronize takes over the sandboxes that are there already. It prunes
// nothing: a sandbox that is not listed may be one that is being created.
func (h *handlers) Synchronize(ctx context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	defer h.observed("Synchronize", time.Now(), nil)
	ids := make([]record.Identity, 0, len(pods))
	for _, pod := range pods {
		ids = append(ids, identify(pod))
	}
	for _, container := range containers {
		h.engine.ContainerThere(container.GetPodSandboxId())
	}
	h.engine.TakeOver(ctx, ids)
	h.onSync()
	return nil, nil
}

// RunPodSandbox tells the engine that CNI has finished and, on containerd 2.x,
// that the sandbox runs.
func (h *handlers) RunPodSandbox(ctx context.Context, pod *api.PodSandbox) (err error) {
	defer h.observed("RunPodSandbox", time.Now(), &err)
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	h.engine.SandboxStarted(ctx, identify(pod))
	err = h.engine.AdmitSandbox(ctx, pod.GetId())
	if err != nil && !h.cleansUp {
		h.log.WithError(err).WithField("sandbox", pod.GetId()).
			Warn("this runtime leaves refused sandboxes behind: the pod's containers are refused instead")
		return nil
	}
	return err
}

// CreateContainer sets the annotation and mounts the live file.
func (h *handlers) CreateContainer(ctx context.Context, pod *api.PodSandbox, container *api.Container) (_ *api.ContainerAdjustment, _ []*api.ContainerUpdate, err error) {
	defer h.observed("CreateContainer", time.Now(), &err)
	// The engine waits for no longer than answerWithin: half of it for each.
	value := h.engine.ContainerCreating(ctx, pod.GetId())
	if err = h.engine.AdmitContainer(ctx, pod.GetId()); err != nil {
		return nil, nil, err
	}
	adjusting := h.adjusting(pod, container)
	adjusting.annotate(value)
	adjusting.mountLiveFile()
	return adjusting.answer, nil, nil
}

// StopPodSandbox ends the engine's repairs for the sandbox.
func (h *handlers) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	defer h.observed("StopPodSandbox", time.Now(), nil)
	h.engine.SandboxStopped(pod.GetId())
	return nil
}

// RemovePodSandbox lets the engine forget the sandbox.
func (h *handlers) RemovePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	defer h.observed("RemovePodSandbox", time.Now(), nil)
	h.engine.SandboxRemoved(pod.GetId())
	return nil
}

// same tells that two values say the same of the same namespace.
func same(a, b string) bool {
	left, err := annotation.Parse(a)
	if err != nil {
		return false
	}
	right, err := annotation.Parse(b)
	return err == nil && left.SameNeighbors(right)
}

// identify translates NRI's pod. One on the host's network has no network
// namespace with a path.
func identify(pod *api.PodSandbox) record.Identity {
	id := record.Identity{
		ID: pod.GetId(), Name: pod.GetName(), Namespace: pod.GetNamespace(), UID: pod.GetUid(),
		Handler: pod.GetRuntimeHandler(), Annotations: pod.GetAnnotations(),
	}
	namespaces := pod.GetLinux().GetNamespaces()
	if i := slices.IndexFunc(namespaces, func(n *api.LinuxNamespace) bool { return n.GetType() == "network" }); i >= 0 {
		id.NetNSPath = namespaces[i].GetPath()
	}
	return id
}
