// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/setup"
	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// containerd is upgraded under running pods by the steps that it supports, and taken back by one; neighpin runs all the time. The
// way in changes with the first step: 1.7 has no records of sandboxes.
func TestContainerdIsUpgradedInPlace(t *testing.T) {
	keepLogs(t)
	path := setup.UpgradePath()
	startAnew(t, path[0])
	u := &upgrade{daemon: startDaemon(t), wire: capture(t), known: map[*node.Pod]node.Sandbox{}}
	if err := u.connected(t, path[0]); err != nil {
		t.Fatal(err)
	}
	u.start(t)
	for _, release := range append(path[1:], path[len(path)-2]) {
		from := bed.Release()
		if err := bed.ChangeRelease(t.Context(), release); err != nil {
			t.Fatal(err)
		}
		step := func(t *testing.T) {
			if err := u.connected(t, release); err != nil {
				t.Fatal(err)
			}
			for _, pod := range u.pods {
				u.check(t, pod, "from-"+from)
			}
			u.start(t)
			// The oldest, of each kind.
			for _, pod := range slices.Clone(u.pods[:2]) {
				u.remove(t, pod)
			}
		}
		if !t.Run("from "+from+" to "+release, step) {
			return // each step stands on those before it
		}
	}
	u.control(t, u.pods[len(u.pods)-1])
	for _, pod := range slices.Clone(u.pods) {
		u.remove(t, pod)
	}
	settled(t, u.daemon, nil)
}

// startAnew ends the node and starts one of that release; at the end of the test comes one like that before it.
func startAnew(t *testing.T, release string) {
	t.Helper()
	before := bed.Programs()
	programs, err := before.Of(release)
	if err != nil {
		t.Fatal(err)
	}
	start := func(ctx context.Context, programs setup.Programs) error {
		closed := errors.Join(removeAllPods(ctx), bed.Close(ctx))
		n, err := node.Start(ctx, programs, node.Options{}) // also after that failed: the tests that follow need one
		if err == nil {
			bed.Node = n
		}
		return errors.Join(closed, err)
	}
	t.Cleanup(func() {
		if err := start(context.Background(), before); err != nil {
			t.Error(err)
		}
	})
	const left = "neighpin.io/e2e/left:latest"
	if out := ctr(t, "images", "tag", node.Image, left); !strings.Contains(out, left) {
		t.Fatalf("the image has not become %s: %s", left, out)
	}
	if err := start(t.Context(), programs); err != nil {
		t.Fatal(err)
	}
	if out := ctr(t, "images", "list", "--quiet"); strings.Contains(out, left) || !strings.Contains(out, node.Image) {
		t.Errorf("a new node has what the one before it left, or no image of its own: %s", out)
	}
}

// ctr asks the node's containerd.
func ctr(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"--address", node.ContainerdSocket, "--namespace", "k8s.io"}, args...)
	out, err := exec.CommandContext(t.Context(), filepath.Join(bed.Programs().Containerd, "ctr"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ctr %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// upgrade is what lives through one.
type upgrade struct {
	daemon *node.Daemon
	wire   *wire.Capture
	// pods are those that run, oldest first; known are their records as they were when they had started.
	pods  []*node.Pod
	known map[*node.Pod]node.Sandbox
}

// connected waits until neighpin has found that release.
func (u *upgrade) connected(t *testing.T, release string) error {
	t.Helper()
	return await.Within(t.Context(), patience, "neighpin on containerd "+release, func() error {
		status, err := u.daemon.Status(t.Context())
		if err != nil {
			return err
		}
		if !status.NRI.Synchronized || !strings.HasPrefix(strings.TrimPrefix(status.NRI.RuntimeVersion, "v"), release+".") {
			return fmt.Errorf("NRI is %+v", status.NRI)
		}
		return nil
	})
}

// start runs a pod of gVisor and one of runc that asks to be pinned, and checks that both are in time, by the way in that this
// release offers.
func (u *upgrade) start(t *testing.T) {
	t.Helper()
	for _, spec := range []node.PodSpec{
		{Handler: "runsc"},
		{Handler: "runc", Annotations: map[string]string{pinAnnotation: "true"}},
	} {
		pod, err := bed.RunPod(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		container := runContainer(t, pod)
		connect(t, container)
		sandbox, err := started(t.Context(), u.daemon, pod)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(checkRecord(pod, sandbox), checkAnnotated(pod, sandbox, container), held(t, pod, sandbox)); err != nil {
			t.Error(err)
		}
		if early := bed.Release() != "1.7"; sandbox.Timing.Verdict != "inTime" || (sandbox.Timing.ResultToPinMs > 0) != early {
			t.Errorf("pod %s of %s on containerd %s: %+v", pod.Name, spec.Handler, bed.Release(), sandbox.Timing)
		}
		u.pods, u.known[pod] = append(u.pods, pod), sandbox
	}
}

// held says what is wrong with what the pod's stack goes by: the kernel's entries, or what runsc copied.
func held(t *testing.T, pod *node.Pod, sandbox node.Sandbox) error {
	t.Helper()
	if sandbox.Handler == "runsc" {
		copied, err := pod.Copied()
		if err != nil {
			return err
		}
		return checkTrue(pod, copied)
	}
	return checkTrue(pod, entries(t, filepath.Base(pod.NetNS)))
}

// check looks at a pod that has lived through a change of containerd: its record is the old one, its pins stand and were never
// written again, and a container that comes now is annotated and reaches everything without asking.
func (u *upgrade) check(t *testing.T, pod *node.Pod, name string) {
	t.Helper()
	container, err := pod.Run(t.Context(), node.ContainerSpec{Name: name})
	if err != nil {
		t.Error(err)
		return
	}
	began := time.Now()
	connect(t, container)
	if asked := u.wire.Messages(wire.Asks(pod.HostLink, began, gateways...)); len(asked) != 0 {
		t.Errorf("pod %s asks for its gateways:\n%s", pod.Name, wire.Format(asked))
	}
	sandbox, err := u.daemon.Sandbox(t.Context(), pod)
	if err != nil {
		t.Error(err)
		return
	}
	if err := errors.Join(checkRecord(pod, sandbox), checkAnnotated(pod, sandbox, container), held(t, pod, sandbox)); err != nil {
		t.Error(err)
	}
	was := u.known[pod]
	if sandbox.NetNS != was.NetNS || sandbox.Timing != was.Timing || sandbox.Repins != 0 || len(sandbox.Stale) != 0 {
		t.Errorf("the record of pod %s was\n%+v\nand is\n%+v", pod.Name, was, sandbox)
	}
}

// control shows that a pin that was lost for a moment would have been seen in the pod's record.
func (u *upgrade) control(t *testing.T, pod *node.Pod) {
	t.Helper()
	ip(t, "-n", filepath.Base(pod.NetNS), "neighbor", "delete", node.Gateway4.String(), "dev", "eth0")
	err := await.Within(t.Context(), patience, "the loss of a pin to be counted", func() error {
		sandbox, err := u.daemon.Sandbox(t.Context(), pod)
		if err == nil && sandbox.Repins == 0 {
			err = errors.New("it is not")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// remove removes a pod and waits until its record has gone.
func (u *upgrade) remove(t *testing.T, pod *node.Pod) {
	t.Helper()
	if err := pod.Remove(t.Context()); err != nil {
		t.Error(err)
		return
	}
	u.pods = slices.DeleteFunc(u.pods, func(p *node.Pod) bool { return p == pod })
	err := await.Within(t.Context(), patience, "the end of the record of pod "+pod.Name, func() error {
		records, err := u.daemon.Records()
		if err == nil && slices.Contains(records, pod.ID) {
			err = errors.New("it is there")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
