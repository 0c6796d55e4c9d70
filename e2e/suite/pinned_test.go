// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// The main job. The counterpart without neighpin is TestControlGVisorAsksForItsGateways.
func TestTwentyGVisorPodsStartPinnedAndStaySilent(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	if err := bed.figures.addMemory("idle", d); err != nil {
		t.Error(err)
	}
	messages := capture(t)
	for i := range 20 {
		pod := runPod(t, node.PodSpec{Name: fmt.Sprintf("pinned-%d", i), Handler: "runsc"})
		container := runContainer(t, pod)
		begin := time.Now()
		connect(t, container)
		if err := checkPinned(t.Context(), d, pod, container); err != nil {
			t.Error(err)
		}
		if asked := messages.Messages(wire.Asks(pod.HostLink, begin, gateways...)); len(asked) != 0 {
			t.Errorf("pod %s asks for its gateways from its first connection on:\n%s", pod.Name, wire.Format(asked))
		}
	}
	if err := bed.figures.addMemory("with 20 gVisor pods", d); err != nil {
		t.Error(err)
	}
	// The capture saw the links: the node's own questions for the pods are not the pods'.
	if len(messages.Messages(wire.Query{})) == 0 {
		t.Error("the capture recorded nothing at all; the silence proves nothing")
	}
}

func TestEveryContainerOfAPodCarriesTheAnnotation(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	var containers []*node.Container
	for _, name := range []string{"init", "main", "sidecar"} {
		container, err := pod.Run(t.Context(), node.ContainerSpec{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		containers = append(containers, container)
	}
	if err := checkPinned(t.Context(), d, pod, containers...); err != nil {
		t.Error(err)
	}
	sandbox, err := d.Sandbox(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	if !sandbox.Annotated {
		t.Error("the status does not say that the pod is annotated")
	}
}

// A pod cannot speak for us: whoever may annotate pods may not choose what a runtime pins.
func TestAForgedAnnotationIsOverwritten(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	forged := map[string]string{annotationKey: `{"version":1,"cookie":1,"capturedAt":"2026-01-01T00:00:00Z","neighbors":[]}`}
	pod := runPod(t, node.PodSpec{Handler: "runsc", Annotations: forged})
	container, err := pod.Run(t.Context(), node.ContainerSpec{Annotations: forged})
	if err != nil {
		t.Fatal(err)
	}
	if err := checkPinned(t.Context(), d, pod, container); err != nil {
		t.Error(err)
	}
}

// Forty pods, eight at a time, while every core is kept busy by others.
func TestFortyPodsUnderLoadStartPinned(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	under(t, "8 at a time with all cores kept busy")
	stop, err := bed.KeepCoresBusy()
	if err != nil {
		t.Fatal(err)
	}
	err = pods(t.Context(), 40, 8, node.PodSpec{Handler: "runsc"}, func(ctx context.Context, pod *node.Pod, container *node.Container) error {
		return checkPinned(ctx, d, pod, container)
	})
	if err := errors.Join(err, stop()); err != nil {
		t.Error(err)
	}
}
