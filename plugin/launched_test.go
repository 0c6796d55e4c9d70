// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/annotation"
)

// launch runs the code that containerd runs at its start: it finds the real
// binary in the plugin folder and launches it with the configuration beside it.
func launch(t *testing.T, config string) *adaptation.Adaptation {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"plugins", "conf.d"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "plugins", "10-neighpin"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "conf.d", "10-neighpin.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return adapt(t, adaptation.WithDisabledExternalConnections(),
		adaptation.WithPluginPath(filepath.Join(dir, "plugins")),
		adaptation.WithPluginConfigPath(filepath.Join(dir, "conf.d")))
}

// adapt is the runtime's side of NRI, without pods.
func adapt(t *testing.T, options ...adaptation.Option) *adaptation.Adaptation {
	t.Helper()
	nri, err := adaptation.New("test-runtime", "v0.1.0",
		func(ctx context.Context, sync adaptation.SyncCB) error {
			_, err := sync(ctx, nil, nil)
			return err
		},
		func(context.Context, []*api.ContainerUpdate) ([]*api.ContainerUpdate, error) { return nil, nil },
		options...)
	if err != nil {
		t.Fatal(err)
	}
	if err := nri.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nri.Stop)
	return nri
}

func createContainer(t *testing.T, nri *adaptation.Adaptation, pod *api.PodSandbox) map[string]string {
	t.Helper()
	response, err := nri.CreateContainer(t.Context(), &api.CreateContainerRequest{
		Pod: pod, Container: &api.Container{Id: "c1", PodSandboxId: pod.GetId(), Name: "app"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return response.GetAdjust().GetAnnotations()
}

func TestLaunchedByTheRuntimeWithItsConfiguration(t *testing.T) {
	state := t.TempDir()
	nri := launch(t, strings.Join([]string{
		"handlers: [special]", "annotate: [special]", "stateDir: " + state, "netnsDirs: [" + t.TempDir() + "]",
		"containerdSocket: " + filepath.Join(t.TempDir(), "absent"),
	}, "\n"))
	ns, _ := newPod(t)
	pod := &api.PodSandbox{
		Id: "0123456789abcdef", Name: "web", Namespace: "shop", RuntimeHandler: "special",
		Linux: &api.LinuxPodSandbox{Namespaces: []*api.LinuxNamespace{{Type: "network", Path: ns.Mount()}}},
	}
	if err := nri.RunPodSandbox(t.Context(), &api.RunPodSandboxRequest{Pod: pod}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(ns.Output("neigh", "show"), "PERMANENT"); got != 2 {
		t.Errorf("%d permanent entries, want 2: the handler stands in the configuration that NRI passes", got)
	}
	if _, err := annotation.Parse(createContainer(t, nri, pod)[annotation.Key]); err != nil {
		t.Error(err)
	}
	var status outcome
	nstest.Eventually(t, "the status socket to answer", func() bool {
		status = neighpin(nil, "status", "--state-dir", state)
		return status.code == exitOK
	})
	if !strings.Contains(status.stdout, "shop/web") || !strings.Contains(status.stdout, "test-runtime") {
		t.Errorf("status:\n%s", status.stdout)
	}
}

func TestLaunchedWithAConfigurationThatCannotBeMeant(t *testing.T) {
	nri := launch(t, "handlers: [")
	// The plugin gives up with an error; the runtime goes on without it.
	if got := createContainer(t, nri, &api.PodSandbox{Id: "abc", Name: "web", Namespace: "shop"}); len(got) != 0 {
		t.Errorf("annotations %v", got)
	}
}
