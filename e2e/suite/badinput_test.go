// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// said waits until a line of the daemon's log holds text and fails unless exactly that many do.
func said(t *testing.T, d *node.Daemon, text string, times int) {
	t.Helper()
	lines := func() ([]string, error) {
		log, err := d.Log()
		var found []string
		for line := range strings.Lines(log) {
			if strings.Contains(line, text) {
				found = append(found, line)
			}
		}
		return found, err
	}
	err := await.Within(t.Context(), patience, fmt.Sprintf("%q in the log", text), func() error {
		found, err := lines()
		if err == nil && len(found) < times {
			err = fmt.Errorf("%d lines", len(found))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if found, err := lines(); err != nil || len(found) > times {
		t.Errorf("%d lines of the log say %q, want %d: %v\n%s", len(found), text, times, err, strings.Join(found, ""))
	}
}

// restartContainerd gives containerd other options for the rest of the test.
func restartContainerd(t *testing.T, change, back func(*node.Options)) {
	t.Helper()
	t.Cleanup(func() {
		if err := bed.RestartContainerd(context.Background(), back); err != nil {
			t.Error(err)
		}
	})
	if err := bed.RestartContainerd(t.Context(), change); err != nil {
		t.Fatal(err)
	}
}

// Without NRI the early path pins, but nothing can be annotated. When NRI comes the daemon finds it by itself.
func TestNRISocketMissing(t *testing.T) {
	keepLogs(t)
	restartContainerd(t, func(o *node.Options) { o.NRIDisabled = true }, func(o *node.Options) { o.NRIDisabled = false })
	d := launch(t, node.DaemonOptions{})
	said(t, d, "no connection to NRI", 1)

	without := runPod(t, node.PodSpec{Handler: "runsc"})
	early := runContainer(t, without)
	if err := checkPinned(t.Context(), d, without); err != nil {
		t.Error(err)
	}
	if annotations, err := early.Annotations(); err != nil || annotations[annotationKey] != "" {
		t.Errorf("annotation %q, %v, although NRI is disabled", annotations[annotationKey], err)
	}
	if _, code, err := bed.CLI(t.Context(), "status", "--ready"); code != 1 {
		t.Errorf("status --ready: exit code %d, %v; want 1 without NRI", code, err)
	}
	// No orchestrator is to end it for that.
	if _, code, err := bed.CLI(t.Context(), "status", "--live"); code != 0 {
		t.Errorf("status --live: exit code %d, %v; want 0 without NRI", code, err)
	}

	if err := bed.RestartContainerd(t.Context(), func(o *node.Options) { o.NRIDisabled = false }); err != nil {
		t.Fatal(err)
	}
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	said(t, d, "no connection to NRI", 1)
	later, err := without.Run(t.Context(), node.ContainerSpec{Name: "later"})
	if err != nil {
		t.Fatal(err)
	}
	sandbox, err := d.Sandbox(t.Context(), without)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkAnnotated(without, sandbox, later); err != nil {
		t.Errorf("a pod from before NRI: %v", err)
	}
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	if err := checkPinned(t.Context(), d, pod, runContainer(t, pod)); err != nil {
		t.Error(err)
	}
}

// hangUp accepts connections at path and closes each at once, until stop; count says how many.
func hangUp(t *testing.T, path string) (count *atomic.Int64, stop func()) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	count = &atomic.Int64{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			connection.Close()
		}
	}()
	stop = func() {
		listener.Close()
		<-ended
	}
	t.Cleanup(stop)
	return count, stop
}

// Somebody accepts at NRI's path and hangs up; the early path goes on, the daemon tries on, and the log is not filled.
func TestNRISocketHangsUp(t *testing.T) {
	keepLogs(t)
	path := filepath.Join(t.TempDir(), "nri.sock")
	count, stop := hangUp(t, path)
	d := launch(t, node.DaemonOptions{Args: []string{"--nri-socket", path}})
	tries := func(n int64) {
		t.Helper()
		err := await.Within(t.Context(), patience, fmt.Sprintf("%d tries to connect", n), func() error {
			if now := count.Load(); now < n {
				return fmt.Errorf("%d tries", now)
			}
			return d.Running()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	tries(3)
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	runContainer(t, pod)
	if err := checkPinned(t.Context(), d, pod); err != nil {
		t.Error(err)
	}
	tries(count.Load() + 1)
	said(t, d, "no connection to NRI", 1)

	// The real one takes its place.
	stop()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(node.NRISocket, path); err != nil {
		t.Fatal(err)
	}
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := runPod(t, node.PodSpec{Handler: "runsc"})
	if err := checkPinned(t.Context(), d, after, runContainer(t, after)); err != nil {
		t.Error(err)
	}
}

// No early path, whether that is meant or not: NRI still serves. A pod on the kernel's stack is pinned before its first
// container; that it is on the kernel's stack only the store would tell, so nothing more is claimed. For gVisor NRI comes too
// late, and that must be said.
func TestContainerdSocketAbsent(t *testing.T) {
	for _, c := range []struct{ scenario, socket, warning string }{
		{"absent", "/run/absent/containerd.sock", "containerd's sandbox store does not answer"},
		{"switched off", "", "no early path: containerdSocket is empty"},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			keepLogs(t)
			d := startDaemon(t, "--containerd-socket", c.socket)
			gvisor := runPod(t, node.PodSpec{Handler: "runsc"})
			runContainer(t, gvisor)
			kernel := runPod(t, node.PodSpec{Handler: "runc", Annotations: map[string]string{pinAnnotation: "true"}})
			container := runContainer(t, kernel)
			connect(t, container)

			sandbox, err := started(t.Context(), d, kernel)
			if err != nil {
				t.Fatal(err)
			}
			if sandbox.Timing.Verdict != "unproven" || sandbox.Error != "" {
				t.Errorf("a pod on the kernel's stack: %+v, want it pinned and the time unproven", sandbox)
			}
			if err := errors.Join(checkRecord(kernel, sandbox), checkAnnotated(kernel, sandbox, container)); err != nil {
				t.Error(err)
			}
			late, err := started(t.Context(), d, gvisor)
			if err != nil {
				t.Fatal(err)
			}
			if late.Timing.Verdict != "late" || late.Error == "" {
				t.Errorf("gVisor read its namespace before NRI told of it, yet the record says %+v", late)
			}
			if copied, err := gvisor.Copied(); err != nil || len(copied) != 0 {
				t.Errorf("runsc copied %v, %v, although nothing can have been pinned in time", copied, err)
			}
			said(t, d, c.warning, 1)
			status, err := d.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if status.Store.Connected {
				t.Error("the status claims a connection to containerd")
			}
		})
	}
}
