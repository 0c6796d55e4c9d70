// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/node"
)

// leaksRefused are the releases whose RunPodSandbox leaves a sandbox behind that a plugin refused: see cleansUp in hooks/nri.
var leaksRefused = map[string]bool{"1.7": true, "2.0": true}

// refusal runs a pod, which must not get a container, and returns what the CRI, and with it the kubelet, is told.
func refusal(t *testing.T, spec node.PodSpec) string {
	t.Helper()
	pod, err := bed.RunPod(t.Context(), spec)
	if !leaksRefused[bed.Release()] {
		if err == nil {
			t.Fatalf("pod %s was started", spec.Name)
		}
		return err.Error()
	}
	if err != nil {
		t.Fatalf("the sandbox was refused by a release that leaves it behind: %v", err)
	}
	if _, err = pod.Create(t.Context(), node.ContainerSpec{}); err == nil {
		t.Fatalf("pod %s got a container", spec.Name)
	}
	if err := pod.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	return err.Error()
}

// nothingLeft checks that no sandbox, no task and no record is left of refused pods.
func nothingLeft(t *testing.T) {
	t.Helper()
	// What a failed start leaves in the CRI's list, the kubelet removes.
	if err := bed.RemoveAllPods(t.Context()); err != nil {
		t.Error(err)
	}
	if tasks, err := bed.Tasks(); err != nil || len(tasks) != 0 {
		t.Errorf("tasks left behind: %v %v", tasks, err)
	}
	for _, pattern := range []string{
		filepath.Join(node.StateDir, "sandboxes", "*.json"), "/run/netns/*",
	} {
		left, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestEnforceRefusesAPodWhoseGatewaysHaveNoTruth(t *testing.T) {
	keepLogs(t)
	makeBridge(t)
	d := startDaemon(t, "--enforce")
	for _, stack := range stacks {
		t.Run(stack.name, func(t *testing.T) {
			spec := stack.spec
			spec.Namespace, spec.Name = "bridge", "refused-"+strings.ToLower(stack.name)
			said := refusal(t, spec)
			for _, want := range []string{"neighpin refuses", "bridge/" + spec.Name, segmentGateways[0], "RouterBeyondBridge"} {
				if !strings.Contains(said, want) {
					t.Errorf("the kubelet is told %q, which lacks %q", said, want)
				}
			}
		})
	}
	nothingLeft(t)
	log, err := d.Log()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log, "RouterBeyondBridge") {
		t.Error("neighpin's log does not say why")
	}
}

func TestEnforceStartsWhatIsPinnedAndWhatHasNothingToPin(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t, "--enforce")
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	if err := checkPinned(t.Context(), d, pod, runContainer(t, pod)); err != nil {
		t.Error(err)
	}
	for _, stack := range stacks {
		spec := stack.spec
		spec.Namespace = "noarp"
		runContainer(t, runPod(t, spec))
	}
}

// Tenants may ask to be pinned; under enforce they may not ask to be left alone, unless the operator says so.
func TestEnforceIgnoresAnOptOut(t *testing.T) {
	keepLogs(t)
	out := map[string]string{pinAnnotation: "false"}
	d := startDaemon(t, "--enforce")
	pod := runPod(t, node.PodSpec{Handler: "runsc", Annotations: out})
	if err := checkPinned(t.Context(), d, pod, runContainer(t, pod)); err != nil {
		t.Error(err)
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	allowing := startDaemon(t, "--enforce", "--pod-annotations", "allow")
	alone := runPod(t, node.PodSpec{Handler: "runsc", Annotations: out})
	if err := checkUntouched(t.Context(), allowing, alone, runContainer(t, alone)); err != nil {
		t.Error(err)
	}
}

func TestEnforceLetsContainersOfAnOlderSandboxRestart(t *testing.T) {
	keepLogs(t)
	makeBridge(t)
	for _, stack := range stacks {
		t.Run(stack.name, func(t *testing.T) {
			spec := stack.spec
			spec.Namespace = "bridge"
			pod := runPod(t, spec) // nobody watches
			first := runContainer(t, pod)
			startDaemon(t, "--enforce")
			if err := first.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			runContainer(t, pod)
		})
	}
}

// A pod that was refused stays refused when neighpin starts anew, or a restart would let it in.
func TestEnforceRefusesAfterARestart(t *testing.T) {
	keepLogs(t)
	if !leaksRefused[bed.Release()] {
		// Only there does a refused sandbox live on; here its record must be gone.
		makeBridge(t)
		d := startDaemon(t, "--enforce")
		refusal(t, node.PodSpec{Handler: "runsc", Namespace: "bridge"})
		if err := d.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		nothingLeft(t)
		return
	}
	makeBridge(t)
	d := startDaemon(t, "--enforce")
	pod := runPod(t, node.PodSpec{Handler: "runsc", Namespace: "bridge"})
	if _, err := pod.Create(t.Context(), node.ContainerSpec{}); err == nil {
		t.Fatal("the pod got a container")
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, "--enforce")
	_, err := pod.Create(t.Context(), node.ContainerSpec{})
	if err == nil || !strings.Contains(err.Error(), "delete the pod") {
		t.Errorf("after a restart: %v", err)
	}
}
