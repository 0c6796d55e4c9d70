// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// actions are those that a workflow may use, with the reason.
var actions = map[string]string{
	"actions/checkout":          "the sources",
	"actions/setup-go":          "the Go that go.mod names",
	"actions/attest":            "GitHub signs what was built, of which commit, by which workflow",
	"actions/upload-artifact":   "what one job built, for the job that publishes it",
	"actions/download-artifact": "the same",
}

// writers are the workflows that may be given more than reading the sources.
var writers = []string{"release.yaml"}

// workflow is the part of a workflow that the rules look at.
type workflow struct {
	Permissions map[string]string `json:"permissions"`
	Jobs        map[string]struct {
		Permissions map[string]string `json:"permissions"`
		Uses        string            `json:"uses"`
		Steps       []struct {
			Uses string `json:"uses"`
			Run  string `json:"run"`
		} `json:"steps"`
	} `json:"jobs"`
}

func TestWorkflowsRunTargetsOfTheMakefileAndNothingElse(t *testing.T) {
	makefile := page(t, "Makefile")
	files, err := filepath.Glob(filepath.Join(root(t), ".github", "workflows", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 3 {
		t.Fatalf("only the workflows %q: the rule is blind", files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range workflowFaults(filepath.Base(file), string(text), makefile) {
			t.Error(fault)
		}
	}
}

var (
	// called is how a job runs a target: as root where it needs that, with Go still in the PATH, and with variables.
	called = regexp.MustCompile(`^(?:sudo env "PATH=\$PATH" )?make ([a-z][a-z0-9-]*)((?: (?:[A-Z]+=[A-Za-z0-9.-]+|"[A-Z]+=\$[A-Z_]+"))*)$`)
	// used is a line that uses an action: by commit, with the release that it is.
	used = regexp.MustCompile(`uses: (\S+?)@(\S+)(.*)`)
)

// workflowFaults returns what is wrong with one workflow, a line each.
func workflowFaults(name, text, makefile string) []string {
	var found []string
	fault := func(format string, args ...any) { found = append(found, name+": "+fmt.Sprintf(format, args...)) }
	var w workflow
	if err := yaml.Unmarshal([]byte(text), &w); err != nil {
		return []string{name + ": " + err.Error()}
	}
	if w.Permissions == nil {
		fault("no permissions for the whole: say `contents: read`, or {}")
	}
	refuse := func(where string, permissions map[string]string, mayWrite bool) {
		for scope, level := range permissions {
			if (scope != "contents" || level != "read") && !mayWrite {
				fault("%s has the permission %s: %s", where, scope, level)
			}
		}
	}
	refuse("the whole", w.Permissions, false)
	for job, j := range w.Jobs {
		refuse(job, j.Permissions, slices.Contains(writers, name))
		runs := 0
		for _, step := range j.Steps {
			if step.Run == "" {
				continue
			}
			runs++
			m := called.FindStringSubmatch(strings.TrimSpace(step.Run))
			if m == nil {
				fault("%s runs %q, which is not one target of the Makefile", job, step.Run)
				continue
			}
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				fault("%s runs make %s, and the Makefile has no such target", job, m[1])
			}
			for _, set := range strings.Fields(m[2]) {
				variable, _, _ := strings.Cut(strings.Trim(set, `"`), "=")
				if !strings.Contains(makefile, "\n"+variable+" ?=") {
					fault("%s sets %s, which the Makefile does not know", job, variable)
				}
			}
		}
		if runs != 1 || j.Uses != "" {
			fault("%s runs %d commands, want one: a target of the Makefile", job, runs)
		}
	}
	for _, m := range used.FindAllStringSubmatch(text, -1) {
		if actions[m[1]] == "" {
			fault("%s is used, which is not among the actions of this rule", m[1])
		}
		if !regexp.MustCompile(`^[0-9a-f]{40}$`).MatchString(m[2]) || !regexp.MustCompile(`^ # v\d+\.\d+\.\d+$`).MatchString(m[3]) {
			fault("%s is used as @%s%s: pin it by commit, and name the release behind it", m[1], m[2], m[3])
		}
	}
	return found
}

// The rule is only worth something if it sees faults.
func TestFaultsOfWorkflowsAreFound(t *testing.T) {
	const (
		makefile = "\nVERSION ?= x\nlint: ## lints\nrelease: bin\n"
		commit   = "actions/checkout@0123456789012345678901234567890123456789"
		good     = "permissions:\n  contents: read\njobs:\n  a:\n    steps:\n      - uses: " + commit + " # v1.2.3\n      - run: make lint\n"
	)
	if found := workflowFaults("test.yaml", good, makefile); len(found) != 0 {
		t.Errorf("a workflow without fault: %q", found)
	}
	for from, to := range map[string]map[string]string{
		"make lint": {
			"make nothing": "no such target", "npm test": "not one target", "make lint release": "not one target", "make lint && date": "not one target",
			"sudo make lint": "not one target", "make lint OTHER=x": "sets OTHER", `make release "VERSION=$REF; date"`: "not one target",
			"make lint\n      - run: make release": "2 commands",
		},
		commit + " # v1.2.3": {
			commit: "pin it by commit", "actions/checkout@v4 # v4.0.0": "pin it by commit",
			strings.Replace(commit, "checkout", "other", 1) + " # v1.2.3": "not among the actions",
		},
		"contents: read":                   {"contents: write": "contents: write", "packages: write": "packages: write"},
		"permissions:\n  contents: read\n": {"": "no permissions"},
	} {
		for bad, want := range to {
			if got := strings.Join(workflowFaults("test.yaml", strings.Replace(good, from, bad, 1), makefile), "\n"); !strings.Contains(got, want) {
				t.Errorf("%q: faults %q, want %q in it", bad, got, want)
			}
		}
	}
	for _, run := range []string{`make release "VERSION=$GITHUB_REF_NAME"`, `sudo env "PATH=$PATH" make lint VERSION=v1.0.0`} {
		if found := workflowFaults("test.yaml", strings.Replace(good, "make lint", run, 1), makefile); len(found) != 0 {
			t.Errorf("%s: %q", run, found)
		}
	}
}

// Every module of the repository is kept up to date, and so are the actions and the image that the Dockerfile builds in.
func TestDependabotKnowsEveryModule(t *testing.T) {
	var config struct {
		Updates []struct {
			Ecosystem   string   `json:"package-ecosystem"`
			Directory   string   `json:"directory"`
			Directories []string `json:"directories"`
		} `json:"updates"`
	}
	if err := yaml.Unmarshal([]byte(page(t, ".github/dependabot.yml")), &config); err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{}
	for _, u := range config.Updates {
		known[u.Ecosystem] = append(known[u.Ecosystem], append(u.Directories, u.Directory)...)
	}
	want := []string{"github-actions /", "docker /"}
	for _, file := range filesWith(t, ".mod") {
		want = append(want, "gomod "+path.Join("/", path.Dir(file)))
	}
	if len(want) < 5 {
		t.Fatalf("only %q: the rule is blind", want)
	}
	for _, w := range want {
		ecosystem, dir, _ := strings.Cut(w, " ")
		if !slices.ContainsFunc(known[ecosystem], func(pattern string) bool {
			ok, err := path.Match(pattern, dir)
			return ok && err == nil
		}) {
			t.Errorf(".github/dependabot.yml has no entry for %s of %s", dir, ecosystem)
		}
	}
}
