// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// containerd starts the plugins of its folder itself, without arguments, and gives them their configuration over the
// connection. That runsc-only pods are pinned shows nothing about it, as that is the default; the state folder does, and runc.
func TestLaunchedByContainerdFromItsPluginFolder(t *testing.T) {
	keepLogs(t)
	dir := stateDir(t)
	config := "handlers: [runsc, runc]\nannotate: [runsc, runc]\nstateDir: " + dir + "\n"
	restartContainerd(t,
		func(o *node.Options) { o.Plugins = map[string]string{"10-neighpin": config} },
		func(o *node.Options) { o.Plugins = nil })
	launched := bed.Said(dir)
	err := await.Within(t.Context(), patience, "the launched daemon's status", func() error {
		_, _, err := bed.CLI(t.Context(), "status", "--ready", "--state-dir", dir)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	container := runContainer(t, pod)
	connect(t, container)
	if err := checkPinned(t.Context(), launched, pod, container); err != nil {
		t.Error(err)
	}
	kernel := runPod(t, node.PodSpec{Handler: "runc"})
	annotated := runContainer(t, kernel)
	sandbox, err := started(t.Context(), launched, kernel)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkRecord(kernel, sandbox); err != nil {
		t.Errorf("a pod that only the configuration selects: %v", err)
	}
	if err := checkAnnotated(kernel, sandbox, annotated); err != nil {
		t.Error(err)
	}
}
