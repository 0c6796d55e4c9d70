// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/parts"
)

// The environment of a run on a cluster that somebody has.
const (
	// kubeconfigEnv names its kubeconfig. Nothing is done past Kubernetes then, and steps that would need it are not run.
	kubeconfigEnv = "E2E_KUBECONFIG"
	// installerEnv is helm or install.yaml; all in turn without it.
	installerEnv = "E2E_INSTALLER"
	// imageEnv is neighpin's image, with a tag; that of the manifests without it.
	imageEnv = "E2E_IMAGE"
	// workloadEnv is the image of e2e/cmd/workload, which the nodes must be able to pull or have.
	workloadEnv = "E2E_WORKLOAD_IMAGE"
	// runtimeClassEnv is the RuntimeClass that means gVisor; gvisor without it.
	runtimeClassEnv = "E2E_RUNTIMECLASS"
	// kubectlEnv and helmEnv are the programs' paths; those in $PATH without them, and built where there are none.
	kubectlEnv, helmEnv = "E2E_KUBECTL", "E2E_HELM"
)

// testGivenCluster takes the steps that a kubeconfig allows.
func testGivenCluster(t *testing.T) {
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop)
	root, err := parts.Root()
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{
		ctx: ctx, deploy: filepath.Join(filepath.Dir(root), "deploy"), image: os.Getenv(imageEnv),
		workload:     cmp.Or(os.Getenv(workloadEnv), WorkloadImage),
		runtimeClass: cmp.Or(os.Getenv(runtimeClassEnv), "gvisor"),
		kube: Kube{
			Kubectl: program(t, "kubectl", kubectlEnv, "kubernetes"), Helm: program(t, "helm", helmEnv, "helm"),
			Environment: append(os.Environ(), "KUBECONFIG="+os.Getenv(kubeconfigEnv)),
		},
	}
	b.nodes = strings.Fields(b.kubectl(t, "get", "nodes", "--selector", "kubernetes.io/os=linux", "--output", "jsonpath={.items[*].metadata.name}"))
	for name, installer := range installers() {
		if chosen := os.Getenv(installerEnv); chosen != "" && chosen != name {
			continue
		}
		t.Run("by "+name, func(t *testing.T) {
			b.installer = installer
			t.Cleanup(func() { b.leave(t) })
			b.namespaces(t)
			b.steps(t, steps())
		})
	}
}

// leave gives the cluster back to its owner, also after a failure.
func (b *bed) leave(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
	defer cancel()
	if t.Failed() {
		described, err := b.kube.Output(ctx, "describe", "pods", "--namespace", home)
		t.Logf("%s\n%v", tail(described), err)
		log, err := b.kube.Output(ctx, "logs", "--namespace", app, "--selector", "app.kubernetes.io/name=neighpin", "--prefix", "--tail", "50")
		t.Logf("%s\n%v", tail(log), err)
		b.ctx = ctx
		if err := b.installer.uninstall(b); err != nil {
			t.Log(err)
		}
	}
	if _, err := b.kube.Output(ctx, "delete", "namespace", "--ignore-not-found", "--timeout="+patience.String(), home, shunned); err != nil {
		t.Error(err)
	}
}

// program finds kubectl or helm, or builds it.
func program(t *testing.T, name, env, part string) string {
	t.Helper()
	if path := os.Getenv(env); path != "" {
		return path
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	builder, err := parts.NewBuilder(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	built, err := builder.Build(t.Context(), part)
	if err != nil {
		t.Fatal(err)
	}
	return built.Path(name)
}

// withKubeconfig begins the names of the steps that are run once more with a kubeconfig alone: those that depend on how it was installed.
var withKubeconfig = []string{"installed", "gVisor pod on each", "configuration is changed", "pod in an excluded", "uninstalled"}

// testKubeconfig runs this program once more, with the kubeconfig of the cluster and nothing else.
func testKubeconfig(t *testing.T, b *bed) {
	b.namespaces(t)
	pattern := "^TestKubernetes$/^by_install.yaml$/^(" + strings.ReplaceAll(strings.Join(withKubeconfig, "|"), " ", "_") + ")"
	cmd := exec.CommandContext(b.ctx, "/proc/self/exe", "-test.v", "-test.run", pattern)
	cmd.Env = append(os.Environ(),
		kubeconfigEnv+"="+filepath.Join(run, "kubeconfig"), installerEnv+"="+byManifest{}.String(),
		kubectlEnv+"="+b.kube.Kubectl, helmEnv+"="+b.kube.Helm,
	)
	output, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(output)) {
		t.Log(strings.TrimRight(line, "\n"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(output), "needs the node, not run here: ") {
		t.Error("without the nodes at hand it does not say what was not run")
	}
	for _, step := range withKubeconfig {
		if !strings.Contains(string(output), "--- PASS: TestKubernetes/by_install.yaml/"+strings.ReplaceAll(step, " ", "_")) {
			t.Error(fmt.Errorf("step %q was not run", step))
		}
	}
}
