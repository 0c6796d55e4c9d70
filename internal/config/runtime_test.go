// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRuntimeConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "runtime.yaml")
	load := func(text string) (Runtime, error) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return LoadRuntime(func(name string) (string, bool) { return file, name == RuntimeEnv })
	}
	got, err := load("runtimes: {neighpin-runsc: /usr/bin/runsc}\nenforce: true\nannotate: false\nmaxNeighbors: 3\nstateDir: /a/s\n")
	if err != nil || got.Runtimes["neighpin-runsc"] != "/usr/bin/runsc" || !got.Enforce || got.Annotate || got.MaxNeighbors != 3 || got.StateDir != "/a/s" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := load(""); err != nil || got.Enforce || !got.Annotate || got.StateDir != DefaultStateDir || got.MaxNeighbors != 64 {
		t.Errorf("empty: %+v, %v", got, err)
	}
	for text, says := range map[string]string{
		"runtime: x":                    "runtime",
		"enforce: maybe":                "enforce",
		"enforce: [":                    "parse configuration " + file,
		"maxNeighbors: 0":               "maxNeighbors: 0",
		"stateDir: run":                 `stateDir: "run"`,
		"excludeNamespaces: ['[']":      "excludeNamespaces",
		"excludeNamespaces: ['']":       "excludeNamespaces",
		"runtimes: {a: b/c}":            "runtimes: a",
		"runtimes: {a: ''}":             "runtimes: a",
		"enforce: true\nx: 1":           "x",
		"enforce: true\nenforce: false": "enforce",
	} {
		if got, err := load(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %+v, %v, want %q", text, got, err, says)
		}
	}
	if _, err := LoadRuntime(func(string) (string, bool) { return filepath.Join(file, "none"), true }); err == nil {
		t.Error("a file that was named and is not there: no error")
	}
}

func TestEveryKeyOfTheRuntimeIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/oci.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"runtimes", "enforce", "annotate", "excludeNamespaces", "maxNeighbors", "stateDir"} {
		if !strings.Contains(string(page), "| `"+key+"` |") {
			t.Errorf("docs/oci.md has no row for the key %q", key)
		}
	}
	for _, name := range []string{RuntimeFile, RuntimeEnv} {
		if !strings.Contains(string(page), name) {
			t.Errorf("docs/oci.md does not name %s", name)
		}
	}
}

func TestTheConfigurationOfDeployIsOne(t *testing.T) {
	got, err := LoadRuntime(func(string) (string, bool) { return "../../deploy/oci/runtime.yaml", true })
	if err != nil || len(got.Runtimes) != 2 || got.Enforce {
		t.Errorf("%+v, %v", got, err)
	}
}
