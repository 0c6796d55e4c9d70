// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/node"
)

// Amazon's CNI adds its own entries with CREATE|EXCL and its ADD fails if anybody was first. RunPod fails then.
func TestACNIThatAddsItsOwnEntriesNeverFails(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	under(t, "6 at a time")
	err := pods(t.Context(), 200, 6, node.PodSpec{Namespace: "aws", Handler: "runsc"}, func(ctx context.Context, pod *node.Pod, container *node.Container) error {
		if err := checkPinned(ctx, d, pod, container); err != nil {
			return err
		}
		sandbox, err := d.Sandbox(ctx, pod)
		if err != nil {
			return err
		}
		for _, n := range sandbox.Neighbors {
			if n.Source != "existing" {
				return fmt.Errorf("pod %s: %+v, want the CNI's entry recorded as existing", pod.Name, n)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Cilium's CNI sets eth0's MAC last, which flushes every neighbor: a pin made at the route would be gone.
func TestACNIThatSetsTheMACLast(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	under(t, "2 at a time")
	err := pods(t.Context(), 10, 2, node.PodSpec{Namespace: "mac-last", Handler: "runsc"}, func(ctx context.Context, pod *node.Pod, container *node.Container) error {
		_, err := container.Connect(ctx)
		return errors.Join(err, checkPinned(ctx, d, pod, container))
	})
	if err != nil {
		t.Error(err)
	}
}

func TestACNIThatTakesFiveSeconds(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	begin := time.Now()
	pod := runPod(t, node.PodSpec{Namespace: "slow", Handler: "runsc"})
	if took := time.Since(begin); took < 5*time.Second {
		t.Fatalf("the pod took %s; the CNI was not slow", took)
	}
	container := runContainer(t, pod)
	connect(t, container)
	if err := checkPinned(t.Context(), d, pod, container); err != nil {
		t.Error(err)
	}
}

// The pod never comes to be; nothing may remain of it, and the next pod is served as ever.
func TestACNIThatFailsHalfway(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	if pod, err := bed.RunPod(t.Context(), node.PodSpec{Namespace: "fail", Handler: "runsc"}); err == nil {
		t.Fatalf("pod %s runs although its CNI failed", pod.ID)
	}
	settled(t, d, nil)
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	container := runContainer(t, pod)
	if err := checkPinned(t.Context(), d, pod, container); err != nil {
		t.Error(err)
	}
}
