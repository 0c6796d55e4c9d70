// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// installWrapper has the wrapper in place, with a configuration, for the rest of the test.
func installWrapper(t *testing.T, config string) {
	t.Helper()
	remove, err := bed.InstallWrapper(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remove(); err != nil {
			t.Error(err)
		}
	})
}

// wrap makes the shims of both runtimes execute neighpin, with a configuration at its usual place, for the rest of the test.
// No daemon runs unless the test starts one.
func wrap(t *testing.T, config string) {
	t.Helper()
	installWrapper(t, config)
	// What an earlier test's daemon did not live to remove, the next daemon will.
	before, err := bed.Said(node.StateDir).Records()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The records go with the sandboxes, nobody's daemon having watched.
		records, err := bed.Said(node.StateDir).Records()
		records = slices.DeleteFunc(records, func(id string) bool { return slices.Contains(before, id) })
		if err != nil || len(records) != 0 {
			t.Errorf("records left behind: %v, %v", records, err)
		}
	})
	restartContainerd(t, func(o *node.Options) { o.Runc, o.Runsc = node.WrapperRunc, node.WrapperRunsc },
		func(o *node.Options) { o.Runc, o.Runsc = "", "" })
}

// checkWrapped says what is wrong with a pod that the wrapper should have served: its record, the annotation in the
// configuration of the sandbox itself, which no NRI plugin reaches, and in those of its containers.
func checkWrapped(pod *node.Pod, containers ...*node.Container) error {
	sandbox, err := bed.Said(node.StateDir).Record(pod)
	if err != nil {
		return err
	}
	if sandbox.Name != pod.Name || sandbox.Namespace != pod.Namespace || sandbox.Phase != "started" || !sandbox.Annotated {
		return fmt.Errorf("pod %s: record %+v", pod.Name, sandbox)
	}
	own := &node.Container{ID: pod.ID, Pod: pod}
	return errors.Join(checkRecord(pod, sandbox), checkAnnotated(pod, sandbox, append(containers, own)...))
}

// The control is TestControlGVisorAsksForItsGateways: the same pod without the wrapper copies nothing and asks.
func TestWrapperServesGVisorWithoutADaemon(t *testing.T) {
	keepLogs(t)
	wrap(t, "")
	messages := capture(t)
	pod := runPod(t, node.PodSpec{Handler: "runsc", Annotations: map[string]string{annotationKey: "forged"}})
	container := runContainer(t, pod)
	begin := time.Now()
	connect(t, container)
	copied, err := pod.Copied()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(checkTrue(pod, copied), checkWrapped(pod, container)); err != nil {
		t.Error(err)
	}
	if asked := messages.Messages(wire.Asks(pod.HostLink, begin, gateways...)); len(asked) != 0 {
		t.Errorf("the pod asks for its gateways:\n%s", wire.Format(asked))
	}
	if len(messages.Messages(wire.Query{})) == 0 {
		t.Error("the capture recorded nothing at all; the silence proves nothing")
	}
	ordinary(t, pod, container)
}

func TestWrapperServesRuncWithoutADaemon(t *testing.T) {
	keepLogs(t)
	wrap(t, "")
	pod := runPod(t, node.PodSpec{Handler: "runc"})
	pinned, err := permanentIn(pod.NetNS)
	if err != nil {
		t.Fatal(err)
	}
	container := runContainer(t, pod)
	connect(t, container)
	if err := errors.Join(checkTrue(pod, pinned), checkWrapped(pod, container)); err != nil {
		t.Error(err)
	}
	ordinary(t, pod, container)
}

// Nobody answers for the gateways there, so that the first packet leaves only because of the pin.
func TestWrapperOnADatapathWhereNobodyAnswers(t *testing.T) {
	keepLogs(t)
	wrap(t, "")
	for _, handler := range []string{"runsc", "runc"} {
		pod := runPod(t, node.PodSpec{Handler: handler, Namespace: "cilium-silent"})
		container := runContainer(t, pod)
		if out, err := container.Exec(t.Context(), append([]string{"connect"}, node.Beyond()...)...); err != nil {
			t.Errorf("%s: %v\n%s", handler, err, out)
		}
	}
}

// ordinary does to a pod what is done to pods: exit codes, output and signals come through, and other containers run.
func ordinary(t *testing.T, pod *node.Pod, container *node.Container) {
	t.Helper()
	ctx := within(t, 2*patience)
	if out, err := container.Exec(ctx, "frobnicate"); err == nil || !strings.Contains(err.Error(), "exited with 2") && !strings.Contains(err.Error(), "exit code 2") {
		t.Errorf("a program that exits with 2: %q, %v", out, err)
	}
	second, err := pod.Run(ctx, node.ContainerSpec{Name: "second"})
	if err != nil {
		t.Fatal(err)
	}
	if err := checkWrapped(pod, container, second); err != nil {
		t.Error(err)
	}
	// The workload ends at SIGTERM with 0; killed, it would not.
	if err := second.Terminate(ctx, patience); err != nil {
		t.Error(err)
	}
	if code, err := second.ExitCode(ctx); err != nil || code != 0 {
		t.Errorf("after SIGTERM: exit code %d, %v", code, err)
	}
	if err := container.Stop(ctx); err != nil {
		t.Error(err)
	}
	if code, err := container.ExitCode(ctx); err != nil || code != 137 {
		t.Errorf("after SIGKILL: exit code %d, %v", code, err)
	}
}

// The words of the real runtime are the wrapper's, on both streams.
func TestWrapperSaysNothingItself(t *testing.T) {
	keepLogs(t)
	remove, err := bed.InstallWrapper("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remove(); err != nil {
			t.Error(err)
		}
	})
	programs := bed.Programs()
	for wrapper, real := range map[string]string{node.WrapperRunc: "runc", node.WrapperRunsc: programs.GVisor + "/runsc"} {
		for _, args := range [][]string{{"--version"}, {"--root", t.TempDir(), "list"}, {"--root", t.TempDir(), "state", "none"}, {"kill", "none", "KILL"}} {
			want, err := bed.Command(t.Context(), real, args...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := bed.Command(t.Context(), wrapper, args...)
			if err != nil {
				t.Fatal(err)
			}
			if got.Stdout != want.Stdout || got.Code != want.Code || got.Stdout+got.Stderr == "" {
				t.Errorf("%s %v: %+v\nwithout the wrapper: %+v", wrapper, args, got, want)
			}
		}
	}
}

// With the daemon there, too, both make one record, and what the daemon proves is not lost.
func TestWrapperAndDaemonAgree(t *testing.T) {
	keepLogs(t)
	wrap(t, "")
	d := startDaemon(t)
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	container := runContainer(t, pod)
	if err := errors.Join(checkPinned(t.Context(), d, pod, container), checkWrapped(pod, container)); err != nil {
		t.Error(err)
	}
	sandbox, err := d.Sandbox(t.Context(), pod)
	if err != nil || sandbox.Repins != 0 || sandbox.Handler != "runsc" {
		t.Errorf("%+v, %v", sandbox, err)
	}
	if records, err := d.Records(); err != nil || len(records) != 1 {
		t.Errorf("records %v, %v, want one", records, err)
	}
}

// A daemon that comes later takes over what the wrapper recorded.
func TestDaemonTakesOverFromTheWrapper(t *testing.T) {
	keepLogs(t)
	wrap(t, "")
	gvisor := runPod(t, node.PodSpec{Handler: "runsc"})
	kernel := runPod(t, node.PodSpec{Handler: "runc"})
	d := startDaemon(t)
	for _, pod := range []*node.Pod{gvisor, kernel} {
		sandbox, err := d.Sandbox(t.Context(), pod)
		if err != nil {
			t.Fatal(err)
		}
		if sandbox.Timing.Verdict != "unproven" || sandbox.Error != "" {
			t.Errorf("%+v", sandbox)
		}
		container := runContainer(t, pod)
		connect(t, container)
		if err := errors.Join(checkRecord(pod, sandbox), checkAnnotated(pod, sandbox, container)); err != nil {
			t.Error(err)
		}
	}
}

// enforced is the configuration under which nothing starts unpinned.
const enforced = "enforce: true\n"

// What the kubelet shows names the gateway and the reason, and nothing is left of the pod.
func TestWrapperRefusesUnderEnforce(t *testing.T) {
	keepLogs(t)
	makeBridge(t) // the gateway is nowhere
	wrap(t, enforced)
	for _, handler := range []string{"runsc", "runc"} {
		t.Run(handler, func(t *testing.T) {
			if pod, err := bed.RunPod(t.Context(), node.PodSpec{Handler: handler, Namespace: "macvlan"}); err == nil {
				t.Errorf("pod %s runs, although nobody knows its gateway's address", pod.Name)
			} else {
				for _, part := range []string{"neighpin: pod macvlan/", "gateway " + node.Gateway4.String() + " on eth0 is not pinned", "UnsupportedLink"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("the CRI says %q, want %q in it", err, part)
					}
				}
			}
			if err := bed.RemoveAllPods(context.Background()); err != nil {
				t.Error(err)
			}
			pod := runPod(t, node.PodSpec{Handler: handler})
			container := runContainer(t, pod)
			connect(t, container)
			if err := checkWrapped(pod, container); err != nil {
				t.Error(err)
			}
			runContainer(t, runPod(t, node.PodSpec{Handler: handler, HostNetwork: true}))
		})
	}
}

// Without enforce the same pods start, and runc's log says why they are not pinned.
func TestWrapperWarnsWithoutEnforce(t *testing.T) {
	keepLogs(t)
	makeBridge(t)
	wrap(t, "enforce: false\nannotate: false\n")
	for _, handler := range []string{"runsc", "runc"} {
		pod := runPod(t, node.PodSpec{Handler: handler, Namespace: "macvlan"})
		runContainer(t, pod)
		log, err := os.ReadFile(pod.Bundle() + "/log.json")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(log), `"level":"warning","msg":"neighpin: `) || !strings.Contains(string(log), node.Gateway4.String()) {
			t.Errorf("%s: the runtime's log says %q", handler, log)
		}
		if annotations, err := pod.SandboxAnnotations(); err != nil || annotations[annotationKey] != "" {
			t.Errorf("%s: annotation %q, %v, although that is switched off", handler, annotations[annotationKey], err)
		}
	}
}

// A configuration that cannot be read stops pods: nobody knows then whether they may start unpinned.
func TestWrapperWithABrokenConfiguration(t *testing.T) {
	keepLogs(t)
	wrap(t, "enforced: true\n")
	if pod, err := bed.RunPod(t.Context(), node.PodSpec{Handler: "runc"}); err == nil || !strings.Contains(err.Error(), "/etc/neighpin/runtime.yaml") || !strings.Contains(err.Error(), "enforced") {
		t.Errorf("%v, %v, want an error that names the file and the key", pod, err)
	}
	if err := bed.RemoveAllPods(context.Background()); err != nil {
		t.Error(err)
	}
}
