// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func nothing(string) (string, bool) { return "", false }

func TestAWrongFileIsToldInItsOwnWords(t *testing.T) {
	for text, want := range map[string]string{
		"handler: [x]":         `unknown field "handler"`,
		"handlers: runsc":      `handlers: string, want a list such as ["a", "b"]`,
		"compareInterval: 5":   "compareInterval: number, want a duration such as 5m",
		`compareInterval: "5"`: `"5" is no duration such as 5m`,
		`enforce: "yes"`:       "enforce: string, want true or false",
		"maxNeighbors: 1.5":    "maxNeighbors: number 1.5, want a whole number",
		"[a]":                  "the file: array, want keys with values",
	} {
		file := filepath.Join(t.TempDir(), "neighpin.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var config Config
		_, err := Loader{Path: file, Given: config.Flags(), LookupEnv: nothing}.Load("")
		if err == nil || err.Error() != "parse configuration "+file+": "+want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// Whatever is mounted into the daemon's container as its state directory should be its
// own: a chart with stateDir: /etc would give it the node's.
func TestTheStateDirectoryIsNoneOfTheSystems(t *testing.T) {
	for path, good := range map[string]bool{
		"/run/neighpin": true, "/var/lib/neighpin/state": true, "/run/neighpin/": true,
		"/": false, "/etc": false, "/run/": false, "//etc": false, "/run/../etc": false, "run/neighpin": false, "": false,
	} {
		config := Default()
		config.StateDir = path
		runtime := defaultRuntime()
		runtime.StateDir = path
		for name, err := range map[string]error{"daemon": config.Validate(), "wrapper": runtime.Validate()} {
			if (err == nil) != good {
				t.Errorf("%s: %q: %v", name, path, err)
			}
		}
	}
}

func TestEveryKeyIsDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	config := Default()
	values, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(values, &keys); err != nil {
		t.Fatal(err)
	}
	flags := config.Flags()
	for _, row := range Table(flags) {
		if !strings.Contains(string(data), row+"\n") {
			t.Errorf("docs/configuration.md lacks the row\n%s", row)
		}
		name := strings.Split(row, "`")[1]
		if _, ok := keys[name]; !ok {
			t.Errorf("flag for %q has no key in the file", name)
		}
		delete(keys, name)
	}
	for name := range keys {
		t.Errorf("key %q has no flag", name)
	}
}
