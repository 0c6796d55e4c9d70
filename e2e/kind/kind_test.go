// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// step is one statement about neighpin on Kubernetes.
type step struct {
	name string
	run  func(*testing.T, *bed)
	// node says that the step reads or changes something on the nodes themselves, past Kubernetes.
	node bool
}

// steps are a user's way, each on those before it: install, run pods, operate, remove.
func steps() []step {
	return []step{
		{"wrong values are refused with a sentence", testWrongValues, false},
		{"gVisor pod starts unpinned without neighpin, and asks for its gateways", testControl, true},
		{"installed with its defaults it becomes ready on every node", testInstall, false},
		{"pod from before is reported", testReported, true},
		{"process has three capabilities and no way to more", testPrivileges, true},
		{"gVisor pod on each node is pinned in time", testSandboxed, false},
		{"its gateways are in gVisor's log and in the OCI annotation, and the wire is silent", testProven, true},
		{"pod without RuntimeClass is untouched, and pinned if it asks", testPlain, true},
		{"configuration is changed: a namespace is excluded, and failures are Events", testReconfigured, false},
		{"pod in an excluded namespace is not pinned", testExcluded, false},
		{"pod with a user namespace of its own", testUserNamespace, false},
		{"changed host end is followed; where gVisor holds a copy, kubectl describe pod says so", testGuard, true},
		{"configuration edited to nonsense changes nothing and is said; a good one is taken", testReload, false},
		{"rolling update under a stream of pods and restarts of containers", testRollingUpdate, false},
		{"fifty gVisor pods come and go", testScale, false},
		{"node's containerd is restarted, with the validator", testContainerdRestart, true},
		{"DaemonSet is deleted and installed again, with enforce; required-plugins holds containers back meanwhile", testReinstall, true},
		{"enforce refuses the pod that cannot be pinned, and no other", testEnforce, true},
		{"admission policy wants the annotation of sandboxed pods", testAdmission, false},
		{"node without NRI: not ready, said, not restarted", testWithoutNRI, true},
		{"uninstalled, nothing is left in the cluster", testUninstall, false},
		{"after unpin --all and their pods' end, nothing is left on the nodes", testUnpin, true},
		{"tutorial is followed word for word, on the empty cluster", testTutorial, true},
	}
}

// TestKubernetes goes through the steps on a cluster of its own, installed by helm; then by install.yaml through the
// kubeconfig alone. With E2E_KUBECONFIG it does the second on that cluster, for each way of installing.
func TestKubernetes(t *testing.T) {
	if os.Getenv(kubeconfigEnv) != "" {
		testGivenCluster(t)
		return
	}
	m, err := Gathered()
	if err != nil {
		t.Fatal(err)
	}
	settings := machineSettings(t)
	b := newBed(t, m)
	b.installer = byHelm{}
	b.prepare(t, m)
	if !b.steps(t, steps()) {
		return
	}
	t.Run("all of it by install.yaml, with a kubeconfig alone", func(t *testing.T) { testKubeconfig(t, b) })
	if now := machineSettings(t); !reflect.DeepEqual(now, settings) {
		t.Errorf("kernel settings of the machine are now %v, were %v", now, settings)
	}
}

// prepare gives the cluster what a user's has: the image, the RuntimeClass and a namespace for pods.
func (b *bed) prepare(t *testing.T, m Materials) {
	t.Helper()
	image := b.chartsImage(t)
	if err := ProductImage(b.ctx, b.own.docker, m, image, testVersion); err != nil {
		t.Fatal(err)
	}
	if err := b.own.Load(b.ctx, image); err != nil {
		t.Fatal(err)
	}
	b.kubectl(t, "apply", "--filename", b.runtimeClassFile())
	b.namespaces(t)
}

// chartsImage is the image that the chart names, with its tag.
func (b *bed) chartsImage(t *testing.T) string {
	t.Helper()
	rendered, err := b.kube.HelmOutput(b.ctx, "", "template", app, filepath.Join(b.deploy, "helm", "neighpin"))
	if err != nil {
		t.Fatal(err)
	}
	found := imageLine.FindAllStringSubmatch(rendered, -1)
	if len(found) != 1 {
		t.Fatalf("the chart names the images %q, want one", found)
	}
	return strings.Trim(found[0][1], `"`)
}

// testVersion is what the tests' image says of itself.
const testVersion = "v0.0.0-e2e"

// runtimeClassFile is the example for clusters that lack the RuntimeClass.
func (b *bed) runtimeClassFile() string { return filepath.Join(b.deploy, "runtimeclass-gvisor.yaml") }

// steps runs them until one fails, and says of those that need what is not at hand that they were not run.
func (b *bed) steps(t *testing.T, all []step) bool {
	t.Helper()
	for _, step := range all {
		if step.node && b.own == nil {
			t.Logf("needs the node, not run here: %s", step.name)
			continue
		}
		if !t.Run(step.name, func(t *testing.T) { step.run(t, b) }) {
			return false
		}
	}
	return true
}

// machineSettings are those of the whole kernel that systemd and the kubelet like to change.
func machineSettings(t *testing.T) map[string]string {
	t.Helper()
	settings := map[string]string{}
	for _, name := range []string{"fs/file-max", "fs/nr_open", "kernel/core_pattern", "kernel/panic", "kernel/panic_on_oops", "kernel/pid_max", "vm/overcommit_memory", "vm/panic_on_oom"} {
		value, err := os.ReadFile(filepath.Join("/proc/sys", name))
		if err != nil {
			t.Fatal(err)
		}
		settings[name] = strings.TrimSpace(string(value))
	}
	return settings
}
