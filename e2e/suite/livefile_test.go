// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

const (
	fileAnnotation = "neighpin.io/file"
	liveFolder     = "/run/neighpin"
)

// asksForFile is what a pod says that wants to be pinned and to see it in a file.
var asksForFile = map[string]string{pinAnnotation: "true", fileAnnotation: "true"}

// liveText reads the live file as the container's programs do.
func liveText(container *node.Container) (string, error) {
	path, err := container.Inside(filepath.Join(liveFolder, "neighbors.json"))
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	return string(text), err
}

func TestContainersSeeTheLiveFileAndCannotChangeIt(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	pod := runPod(t, node.PodSpec{Handler: "runc", Annotations: asksForFile})
	container := runContainer(t, pod)
	annotations, err := container.Annotations()
	if err != nil {
		t.Fatal(err)
	}
	text, err := liveText(container)
	if err != nil || text == "" || text != annotations[annotationKey] {
		t.Errorf("the file says %q, %v; the annotation %q", text, err, annotations[annotationKey])
	}
	folder, err := container.Inside(liveFolder)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "own"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("the container's folder takes a file: %v", err)
	}
	if err := os.Remove(filepath.Join(folder, "neighbors.json")); !errors.Is(err, syscall.EROFS) {
		t.Errorf("the container's file can be removed: %v", err)
	}

	// Whoever a program runs as, also one of another user namespace, is not the owner and may read.
	nobody, err := pod.Run(t.Context(), node.ContainerSpec{Name: "nobody", User: 65534})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := nobody.Exec(t.Context(), "read", liveFolder+"/neighbors.json"); err != nil || out != text {
		t.Errorf("nobody reads %q, %v", out, err)
	}

	// gVisor restores no container that has a mount more than its checkpoint.
	gvisor := runPod(t, node.PodSpec{Handler: "runsc", Annotations: asksForFile})
	if err := checkPinned(t.Context(), d, gvisor, runContainer(t, gvisor)); err != nil {
		t.Error(err)
	}
	folders, err := filepath.Glob(filepath.Join(node.StateDir, "files", "*"))
	if err != nil || len(folders) != 1 || filepath.Base(folders[0]) != pod.ID {
		t.Errorf("live files %v, %v, want that of sandbox %s only", folders, err, pod.ID)
	}
	if err := pod.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = await.Within(t.Context(), patience, "the live file to go with its pod", func() error {
		if _, err := os.Lstat(folders[0]); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("it is there (%w)", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// During a rolling update both daemons are asked, and NRI fails a container for which two plugins set one mount.
func TestContainersSeeTheLiveFileWhileTwoDaemonsServe(t *testing.T) {
	keepLogs(t)
	first := startDaemon(t)
	startDaemon(t)
	pod := runPod(t, node.PodSpec{Handler: "runc", Annotations: asksForFile})
	sees := func(name string) {
		t.Helper()
		container, err := pod.Run(t.Context(), node.ContainerSpec{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		text, err := liveText(container)
		if err != nil {
			t.Fatal(err)
		}
		// They agree about everything but when they looked.
		a, err := parseAnnotation(text)
		if err := errors.Join(err, hasAnnotation(pod, container)); err != nil || len(a.Neighbors) != len(gateways) {
			t.Errorf("container %s: %v; the file says %s", name, err, text)
		}
	}
	sees("served-by-both")
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	sees("served-by-one")
}

// A pod that has something of its own at the place keeps it.
func TestAContainerWithItsOwnMountAtTheLiveFilesPlaceStarts(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	pod := runPod(t, node.PodSpec{Handler: "runc", Annotations: asksForFile})
	own := t.TempDir()
	if err := os.WriteFile(filepath.Join(own, "neighbors.json"), []byte("own"), 0o600); err != nil {
		t.Fatal(err)
	}
	container, err := pod.Run(t.Context(), node.ContainerSpec{Mounts: []node.Mount{{Source: own, Target: liveFolder}}})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := liveText(container); err != nil || text != "own" {
		t.Errorf("the container sees %q, %v", text, err)
	}
	said(t, d, "it does not see the live file", 1)
	if err := hasAnnotation(pod, container); err != nil {
		t.Error(err)
	}
}
