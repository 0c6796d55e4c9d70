// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"iter"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// container is what the manifests say that the binary has to understand.
type container struct {
	Command []string `json:"command"`
	Args    []string `json:"args"`
	Env     []struct {
		Name string `json:"name"`
	} `json:"env"`
	LivenessProbe  probe `json:"livenessProbe"`
	ReadinessProbe probe `json:"readinessProbe"`
	StartupProbe   probe `json:"startupProbe"`
}

type probe struct {
	Exec struct {
		Command []string `json:"command"`
	} `json:"exec"`
}

// workload is a Deployment, a DaemonSet or alike.
type workload struct {
	Spec struct {
		Template struct {
			Spec struct {
				Containers []container `json:"containers"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

func TestManifestsNameOnlyCommandsAndFlagsThatExist(t *testing.T) {
	commands := readCLI(t, buildNeighpin(t))
	known := literals(t)
	seen := 0
	for name, w := range decoded[workload](t) {
		for _, c := range w.Spec.Template.Spec.Containers {
			calls := [][]string{c.LivenessProbe.Exec.Command, c.ReadinessProbe.Exec.Command, c.StartupProbe.Exec.Command}
			// Without a command the image's entry point is called, which is neighpin.
			if len(c.Command) == 0 {
				calls = append(calls, append([]string{"/neighpin"}, c.Args...))
			} else {
				calls = append(calls, append(c.Command, c.Args...))
			}
			for _, call := range calls {
				if len(call) == 0 || path.Base(call[0]) != "neighpin" {
					continue
				}
				seen++
				if fault := commands.check(call[1:]); fault != "" {
					t.Errorf("%s: %q: %s", name, call, fault)
				}
			}
			for _, e := range c.Env {
				if strings.HasPrefix(e.Name, "NEIGHPIN_") && !known[e.Name] && !isKeyVariable(commands, e.Name) {
					t.Errorf("%s sets %s, which no code reads", name, e.Name)
				}
			}
		}
	}
	if seen == 0 {
		t.Error("no manifest calls neighpin")
	}
}

// The configuration that the manifests bring is one that the binary takes.
func TestManifestsBringAValidConfiguration(t *testing.T) {
	binary := buildNeighpin(t)
	seen := 0
	for _, name := range manifests(t) {
		if path.Base(name) != "neighpin.yaml" {
			continue
		}
		seen++
		if out, err := exec.Command(binary, "config", "--config", filepath.Join(root(t), name)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if seen == 0 {
		t.Error("no manifest brings a configuration")
	}
}

// isKeyVariable tells whether a variable stands for one of the daemon's flags.
func isKeyVariable(commands cli, name string) bool {
	for _, flag := range commands["plugin"] {
		if name == variable(flag) {
			return true
		}
	}
	return false
}

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "NEIGHPIN_" + strings.ToUpper(strings.ReplaceAll(strings.TrimLeft(flag, "-"), "-", "_"))
}

// manifests are all of deploy/ but the chart's templates, which are no YAML until they are rendered: as
// deploy/install.yaml, which is among them.
func manifests(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, name := range filesWith(t, ".yaml") {
		if strings.HasPrefix(name, "deploy/") && !strings.Contains(name, "/templates/") {
			found = append(found, name)
		}
	}
	return found
}

// decoded goes through the manifests document by document, each decoded as a T, with the name of its file.
func decoded[T any](t *testing.T) iter.Seq2[string, T] {
	t.Helper()
	return func(yield func(string, T) bool) {
		for _, name := range manifests(t) {
			data, err := os.ReadFile(filepath.Join(root(t), name))
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range regexp.MustCompile(`(?m)^---$`).Split(string(data), -1) {
				var document T
				if err := yaml.Unmarshal([]byte(text), &document); err != nil {
					t.Errorf("decode %s: %v", name, err)
				} else if !yield(name, document) {
					return
				}
			}
		}
	}
}
