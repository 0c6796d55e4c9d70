// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// FuzzConfig: a configuration is refused, or it is one that can be meant and that,
// printed, is the same again.
func FuzzConfig(f *testing.F) {
	printed, err := yaml.Marshal(Default())
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{
		string(printed), "handlers: [a, 'b*']\nannotate: []\n", "learned: off\n", "learned: probe\nlearnedInterval: 1500ms\n",
		"compareInterval: 1h\nenforce: true\n", "enforce: true\nenforce: true\n", "a: &a [*a]\n", "handlers:\n- \"[\"\n", "{}", "[]", "\xff", "maxNeighbors: 1e2\n",
	} {
		f.Add(text, "runsc*,gvisor", "250ms")
	}
	f.Fuzz(func(t *testing.T, text, handlers, interval string) {
		for _, environ := range []map[string]string{nil, {Env("handlers"): handlers, Env("learned-interval"): interval}} {
			l := Loader{Given: pflag.NewFlagSet("given", pflag.ContinueOnError), LookupEnv: func(name string) (string, bool) {
				value, ok := environ[name]
				return value, ok
			}}
			config, err := l.Load(text)
			if err != nil {
				continue
			}
			if err := config.Validate(); err != nil {
				t.Fatalf("%q was accepted: %v", text, err)
			}
			out, err := yaml.Marshal(config)
			if err != nil {
				t.Fatalf("%q cannot be printed: %v", text, err)
			}
			again, err := Loader{Given: l.Given, LookupEnv: func(string) (string, bool) { return "", false }}.Load(string(out))
			if diff := cmp.Diff(config, again); err != nil || diff != "" {
				t.Fatalf("%q, printed as %q, is another configuration: %v\n%s", text, out, err, diff)
			}
		}
	})
}

// FuzzRuntimeConfig: the same for the wrapper's, of which what could be read
// counts although the rest is refused.
func FuzzRuntimeConfig(f *testing.F) {
	path := filepath.Join(f.TempDir(), "runtime.yaml")
	for _, text := range []string{
		"runtimes: {neighpin-runsc: /usr/bin/runsc}\nenforce: true\nannotate: false\nmaxNeighbors: 3\nstateDir: /s\n", "enforce: maybe",
		"runtimes: {a: b/c}", "{}", "x: 1\nenforce: true\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		config, err := LoadRuntime(func(name string) (string, bool) { return path, name == RuntimeEnv })
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Fatalf("%q: the error does not name the file: %v", text, err)
		}
		if err != nil {
			return
		}
		if err := config.Validate(); err != nil {
			t.Fatalf("%q was accepted: %v", text, err)
		}
	})
}
