// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/neighpin/neighpin/e2e/internal/tutorial"
)

// tutorialBlocks are those of the page for readers with kind.
func tutorialBlocks(t *testing.T, checkout string) []tutorial.Block {
	t.Helper()
	blocks, err := tutorial.Read(filepath.Join(checkout, "docs", "tutorial-gvisor-kind.md"))
	if err != nil {
		t.Fatal(err)
	}
	return blocks
}

// testTutorial types what the page says on a cluster where neighpin is not. The page has one node: the other one takes no pods
// meanwhile.
func testTutorial(t *testing.T, b *bed) {
	checkout := filepath.Dir(b.deploy)
	image := b.chartsImage(t)
	repository, _, _ := strings.Cut(image, ":")
	if _, err := b.own.docker.Output(b.ctx, nil, "tag", image, repository+":dev"); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for _, program := range []string{b.kube.Kubectl, b.kube.Helm, b.own.kind} {
		if err := os.Symlink(program, filepath.Join(bin, filepath.Base(program))); err != nil {
			t.Fatal(err)
		}
	}
	b.kubectl(t, "cordon", b.nodes[1])
	shell := tutorial.Shell{Dir: checkout, Env: append(environment(), "PATH="+bin+":"+searchPath)}
	said, err := shell.Run(b.ctx, tutorialBlocks(t, checkout))
	t.Log(said)
	if err != nil {
		t.Fatal(err)
	}
	b.kubectl(t, "uncordon", b.nodes[1])
}

// TestTutorialsPatchIsTaken lays the page's patch over the configuration of kind's own node image, as kind does, and asks containerd what
// it makes of it.
func TestTutorialsPatchIsTaken(t *testing.T) {
	if os.Getenv(kubeconfigEnv) != "" {
		t.Log("needs containerd, not run here")
		return
	}
	m, err := Gathered()
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(filepath.Join(m.NodeFiles, "etc", "containerd", "config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	// Every table of the patch is a new one, so what kind merges is what one gets by writing one behind the other.
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, append(own, containerdPatch(t, m.Checkout)...), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(t.Context(), filepath.Join(m.Programs.Containerd, "containerd"), "--config", file, "config", "dump")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	dump, err := cmd.Output()
	if err != nil {
		t.Fatalf("containerd refuses kind's configuration with the patch of the tutorial: %v\n%s", err, stderr.String())
	}
	_, runsc, _ := strings.Cut(string(dump), "containerd.runtimes.runsc]")
	runsc, _, _ = strings.Cut(runsc, "containerd.runtimes.test-handler]")
	for _, want := range []string{`'io.containerd.runsc.v1'`, `TypeUrl = 'io.containerd.runsc.v1.options'`, `ConfigPath = '/etc/containerd/runsc.toml'`} {
		if !strings.Contains(runsc, want) {
			t.Errorf("containerd's configuration of the runtime runsc lacks %s:\n%s", want, runsc)
		}
	}
}

// containerdPatch is that of the cluster's configuration in the page.
func containerdPatch(t *testing.T, checkout string) string {
	t.Helper()
	for _, block := range tutorialBlocks(t, checkout) {
		_, here, found := strings.Cut(block.Text, "<<'EOF'\n")
		text, _, _ := strings.Cut(here, "\nEOF\n")
		if !found || !strings.Contains(text, "kind: Cluster") {
			continue
		}
		var cluster struct {
			Patches []string `json:"containerdConfigPatches"`
		}
		if err := yaml.Unmarshal([]byte(text), &cluster); err != nil {
			t.Fatal(err)
		}
		if len(cluster.Patches) == 1 {
			return "\n" + cluster.Patches[0]
		}
	}
	t.Fatal("the tutorial has no cluster with one patch of containerd's configuration")
	return ""
}
