// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// cutInHalf leaves the first half of a file, as a crash of the machine can.
func cutInHalf(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()/2)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A record that cannot be read costs its sandbox, not the others and not the daemon. What the kernel still holds is found
// there again; what only the record knew, since gVisor took it, is lost, and that must be said.
func TestStateFilesCutInHalf(t *testing.T) {
	keepLogs(t)
	first := startDaemon(t)
	gvisor := runPod(t, node.PodSpec{Handler: "runsc"})
	kernel := runPod(t, node.PodSpec{Handler: "runc", Annotations: map[string]string{pinAnnotation: "true"}})
	whole := runPod(t, node.PodSpec{Handler: "runsc"})
	for _, pod := range []*node.Pod{gvisor, kernel, whole} {
		runContainer(t, pod)
		if _, err := started(t.Context(), first, pod); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, pod := range []*node.Pod{gvisor, kernel} {
		cutInHalf(t, first.RecordFile(pod.ID))
	}

	second := startDaemon(t)
	for _, pod := range []*node.Pod{gvisor, kernel} {
		said(t, second, "read record "+second.RecordFile(pod.ID), 1)
	}
	for _, pod := range []*node.Pod{kernel, whole} {
		if err := checkLater(t.Context(), second, pod); err != nil {
			t.Error(err)
		}
	}

	later, err := gvisor.Run(t.Context(), node.ContainerSpec{Name: "later"})
	if err != nil {
		t.Fatal(err)
	}
	annotations, err := later.Annotations()
	if err != nil {
		t.Fatal(err)
	}
	sandbox, err := started(t.Context(), second, gvisor)
	if err != nil {
		t.Fatal(err)
	}
	if text, ok := annotations[annotationKey]; ok || sandbox.Error == "" {
		t.Errorf("the record of gVisor's pod is lost, yet its container's annotation is %q and the status %+v", text, sandbox)
	}
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	if err := checkPinned(t.Context(), second, pod, runContainer(t, pod)); err != nil {
		t.Error(err)
	}
}

// mount mounts until the end of the test.
func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Fatalf("mount %s on %s: %v", source, target, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Errorf("unmount %s: %v", target, err)
		}
	})
}

// stateDir makes a folder with a short name: it is also the path of a socket.
func stateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "state-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// The state folder is what survives a restart, not what pins: with no room in it pods lose nothing now.
func TestStateFolderFull(t *testing.T) {
	keepLogs(t)
	dir := stateDir(t)
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=16k,mode=0700")
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, bytes.Repeat([]byte{1}, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill %s: %v, want ENOSPC", dir, err)
	}

	d := launch(t, node.DaemonOptions{StateDir: dir})
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	servedWithoutRecord(t, d)
	left, err := filepath.Glob(filepath.Join(dir, "sandboxes", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v, %v is left of records that could not be written", left, err)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	if err := checkPinned(t.Context(), d, pod, runContainer(t, pod)); err != nil {
		t.Error(err)
	}
	if _, err := d.Record(pod); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

func TestStateFolderBecomesReadOnly(t *testing.T) {
	keepLogs(t)
	dir := stateDir(t)
	mount(t, dir, dir, "", unix.MS_BIND, "")
	d := launch(t, node.DaemonOptions{StateDir: dir})
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	servedWithoutRecord(t, d)
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
}

// servedWithoutRecord runs two pods, which must not notice that they are not recorded; that is said once.
func servedWithoutRecord(t *testing.T, d *node.Daemon) {
	t.Helper()
	for range 2 {
		pod := runPod(t, node.PodSpec{Handler: "runsc"})
		if err := checkPinned(t.Context(), d, pod, runContainer(t, pod)); err != nil {
			t.Error(err)
		}
		if _, err := d.Record(pod); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("record of pod %s: %v, want none", pod.Name, err)
		}
	}
	said(t, d, "record could not be read or kept", 1)
}

// Without a folder there is neither a record nor a status, and both are said; pods are served all the same.
func TestStateFolderThatCannotBe(t *testing.T) {
	keepLogs(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := launch(t, node.DaemonOptions{StateDir: filepath.Join(file, "state")})
	said(t, d, "registered with NRI", 1)
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	container := runContainer(t, pod)
	said(t, d, "sandbox started with its gateways pinned", 1)
	copied, err := pod.Copied()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(checkTrue(pod, copied), hasAnnotation(pod, container)); err != nil {
		t.Error(err)
	}
	said(t, d, "no status socket", 1)
	said(t, d, "record could not be read or kept", 1)
}

// A state folder that others may write to is refused in one sentence: what stands in it is pinned and released by root.
func TestStateFolderThatOthersMayWrite(t *testing.T) {
	keepLogs(t)
	dir := stateDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	d := launch(t, node.DaemonOptions{StateDir: dir})
	err := await.Within(t.Context(), patience, "the daemon's end", func() error {
		if d.Running() == nil {
			return errors.New("it runs")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if code := d.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	log, err := d.Log()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "neighpin: ") || !strings.Contains(last, dir) {
		t.Errorf("the last line does not name the folder: %s", last)
	}
}
