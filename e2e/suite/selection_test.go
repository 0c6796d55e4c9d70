// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/nsid"
)

// watchNeighbors hears of every neighbor in every pod until the end of the test.
func watchNeighbors(t *testing.T) *nsid.Watcher {
	t.Helper()
	w, err := nsid.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// permanent lists the permanent neighbors that the namespace of the pod, which was run at begin, ever had.
func permanent(t *testing.T, w *nsid.Watcher, pod *node.Pod, begin time.Time) []nsid.NeighborEvent {
	t.Helper()
	id, err := nsid.Of(pod.NetNS)
	if err != nil {
		t.Fatal(err)
	}
	return w.Permanent(id, begin)
}

// "Not even for a moment": the watch hears every entry from the first moment on. That it does is shown by the
// annotated pod beside it.
func TestOnlySelectedPodsAreTouched(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	watch := watchNeighbors(t)

	for _, c := range []struct {
		scenario string
		spec     node.PodSpec
		pinned   bool
	}{
		{"runc, not selected", node.PodSpec{Handler: "runc"}, false},
		{"the default handler, which is runc", node.PodSpec{}, false},
		{"runc that asks to be pinned", node.PodSpec{Handler: "runc", Annotations: map[string]string{pinAnnotation: "true"}}, true},
		{"gVisor", node.PodSpec{Handler: "runsc"}, true},
		{"gVisor that asks to be left alone", node.PodSpec{Handler: "runsc", Annotations: map[string]string{pinAnnotation: "false"}}, false},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			begin := time.Now()
			pod := runPod(t, c.spec)
			container := runContainer(t, pod)
			connect(t, container)
			seen := permanent(t, watch, pod, begin)
			if !c.pinned {
				if len(seen) != 0 {
					t.Errorf("there were permanent neighbors: %+v", seen)
				}
				if err := checkUntouched(t.Context(), d, pod, container); err != nil {
					t.Error(err)
				}
				return
			}
			if len(seen) < len(gateways) {
				t.Errorf("the watch saw %+v, want an entry per gateway", seen)
			}
			sandbox, err := started(t.Context(), d, pod)
			if err != nil {
				t.Fatal(err)
			}
			bed.figures.add(pod, sandbox.Timing)
			if sandbox.Timing.Verdict != "inTime" {
				t.Errorf("verdict %+v", sandbox.Timing)
			}
			if err := errors.Join(checkRecord(pod, sandbox), checkAnnotated(pod, sandbox, container)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHostNetworkIsANoOp(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	pod := runPod(t, node.PodSpec{Handler: "runc", HostNetwork: true, Annotations: map[string]string{pinAnnotation: "true"}})
	container := runContainer(t, pod)
	if err := checkUntouched(t.Context(), d, pod, container); err != nil {
		t.Error(err)
	}
}

// With gVisor as the default runtime the record's handler is empty; its type decides.
func TestGVisorAsDefaultRuntimeIsSelected(t *testing.T) {
	keepLogs(t)
	if err := bed.RestartContainerd(t.Context(), func(o *node.Options) { o.DefaultRuntime = "runsc" }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bed.RestartContainerd(context.Background(), func(o *node.Options) { o.DefaultRuntime = "" }); err != nil {
			t.Error(err)
		}
	})
	d := startDaemon(t)
	pod := runPod(t, node.PodSpec{})
	container := runContainer(t, pod)
	connect(t, container)
	if err := checkPinned(t.Context(), d, pod, container); err != nil {
		t.Error(err)
	}
}
