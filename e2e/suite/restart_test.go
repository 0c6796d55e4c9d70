// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// What was known about the sandbox survives in the state folder: the namespace itself no longer tells, since gVisor took
// addresses and routes away.
func TestKilledBetweenSandboxAndContainer(t *testing.T) {
	keepLogs(t)
	first := startDaemon(t)
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	if _, err := started(t.Context(), first, pod); err != nil {
		t.Fatal(err)
	}
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	second := startDaemon(t)
	container := runContainer(t, pod)
	sandbox, err := second.Sandbox(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(checkRecord(pod, sandbox), checkAnnotated(pod, sandbox, container)); err != nil {
		t.Error(err)
	}
}

// The daemon must find the new containerd by itself; pods from before keep their annotation, new ones are
// pinned in time.
func TestContainerdRestartsUnderneath(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	before := runPod(t, node.PodSpec{Handler: "runsc"})
	if err := bed.RestartContainerd(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := runContainer(t, before)
	if err := checkPinned(t.Context(), d, before, late); err != nil {
		t.Errorf("a pod from before: %v", err)
	}
	after := runPod(t, node.PodSpec{Handler: "runsc"})
	container := runContainer(t, after)
	connect(t, container)
	if err := checkPinned(t.Context(), d, after, container); err != nil {
		t.Errorf("a pod from after: %v", err)
	}
}

// Too late for gVisor's pods that run already, which must be said and not claimed otherwise; a kernel stack can
// still be pinned.
func TestStartedAfterThePods(t *testing.T) {
	keepLogs(t)
	gvisor := runPod(t, node.PodSpec{Handler: "runsc"})
	runContainer(t, gvisor)
	kernel := runPod(t, node.PodSpec{Handler: "runc", Annotations: map[string]string{pinAnnotation: "true"}})
	d := startDaemon(t)

	container := runContainer(t, kernel)
	connect(t, container)
	sandbox, err := started(t.Context(), d, kernel)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(checkRecord(kernel, sandbox), checkAnnotated(kernel, sandbox, container)); err != nil {
		t.Error(err)
	}
	status, err := d.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sandbox := range status.Sandboxes {
		if sandbox.ID == gvisor.ID && sandbox.Timing.Verdict == "inTime" {
			t.Errorf("pod %s: gVisor read its namespace before neighpin was there, yet the verdict is %q with a margin of %g ms", gvisor.Name, sandbox.Timing.Verdict, sandbox.Timing.MarginMs)
		}
	}
}

// A rolling update: two are connected for a while, containers come and go all the time. Two that adjust one
// container would make its creation fail; none would leave it without the annotation.
func TestASecondTakesOverUnderAStreamOfPods(t *testing.T) {
	keepLogs(t)
	first := startDaemon(t)
	under(t, "3 at a time while daemons change")
	long := runPod(t, node.PodSpec{Handler: "runsc"})
	finish := stream(t, 3, node.PodSpec{Handler: "runsc"}, func(ctx context.Context, pod *node.Pod, container *node.Container) error {
		// Which of the two is asked for its status changes meanwhile; both write the same record.
		err := await.Within(ctx, patience, "the verdict in the record of pod "+pod.Name, func() error {
			sandbox, err := first.Record(pod)
			if err != nil {
				return err
			}
			if sandbox.Timing.Verdict == "pending" {
				return errors.New("it is pending")
			}
			bed.figures.add(pod, sandbox.Timing)
			return nil
		})
		if err != nil {
			return err
		}
		fresh, err := long.Run(ctx, node.ContainerSpec{Name: "again-" + pod.Name})
		if err != nil {
			return err
		}
		err = errors.Join(hasAnnotation(pod, container), hasAnnotation(long, fresh))
		return errors.Join(err, fresh.Remove(ctx))
	})
	second := startDaemon(t)
	settle := func(phase string) {
		seen := map[string]bool{}
		err := await.Within(t.Context(), patience, "five more pods "+phase, func() error {
			records, err := second.Records()
			if err != nil {
				return err
			}
			for _, id := range records {
				seen[id] = true
			}
			if len(seen) < 8 {
				return fmt.Errorf("%d sandboxes seen", len(seen))
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	settle("with two daemons")
	if err := first.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	settle("after the first stopped")
	count, err := finish()
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d pods", count)
	if count < 10 {
		t.Errorf("only %d pods: too few to have met the change", count)
	}
}

// hasAnnotation checks a container whose daemon may just be changing: against the truth, not against a record.
func hasAnnotation(pod *node.Pod, container *node.Container) error {
	a, err := annotationOf(pod, container)
	if err != nil {
		return err
	}
	if len(a.Neighbors) != len(gateways) {
		return fmt.Errorf("container %s of pod %s: %+v, want both gateways", container.ID, pod.Name, a)
	}
	return nil
}
