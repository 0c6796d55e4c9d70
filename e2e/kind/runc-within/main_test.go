// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func TestConfigurationIsFoundOnTheCommandLine(t *testing.T) {
	cases := map[string]struct {
		args  []string
		path  string
		whole bool
	}{
		"docker creates a container": {[]string{"--root", "/run/r", "--log-format", "json", "create", "--bundle", "/b", "id"}, "/b/config.json", true},
		"bundle by equals sign":      {[]string{"run", "--bundle=/b", "id"}, "/b/config.json", true},
		"bundle is the directory":    {[]string{"create", "id"}, "config.json", true},
		"docker runs a process":      {[]string{"--root", "/run/r", "exec", "--process", "/p.json", "id"}, "/p.json", false},
		"a process by its arguments": {[]string{"exec", "id", "ls"}, "", false},
		"nothing to read":            {[]string{"delete", "--force", "id"}, "", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path, whole := configuration(c.args)
			if path != c.path || whole != c.whole {
				t.Errorf("configuration(%q) = %q, %v; want %q, %v", c.args, path, whole, c.path, c.whole)
			}
		})
	}
}

func TestWithheldCapabilityAndScoreAreRemovedAndTheRestIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	spec := `{"ociVersion":"1.0.2","process":{"oomScoreAdj":-998,"capabilities":{"bounding":["CAP_NET_ADMIN","CAP_SYS_RESOURCE"],` +
		`"effective":["CAP_SYS_RESOURCE"]}},"linux":{"resources":{"memory":{"limit":9223372036854771712}}}}`
	if err := os.WriteFile(path, []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	within := limits{bounding: ^uint64(0) &^ (1 << capSysResource), oomScore: 5}
	if err := rewrite(path, within.limitSpec); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"linux":{"resources":{"memory":{"limit":9223372036854771712}}},"ociVersion":"1.0.2","process":{"capabilities":` +
		`{"bounding":["CAP_NET_ADMIN"],"effective":[]},"oomScoreAdj":5}}`
	if string(raw) != want {
		t.Errorf("configuration after the change:\n%s\nwant\n%s", raw, want)
	}
}

func TestAMachineThatWithholdsNothingChangesNothing(t *testing.T) {
	process := map[string]any{"oomScoreAdj": json.Number("-999"), "capabilities": map[string]any{"bounding": []any{"CAP_SYS_RESOURCE", "CAP_UNHEARD_OF"}}}
	limits{bounding: ^uint64(0), oomScore: minOOMScore}.limitProcess(process)
	raw, err := json.Marshal(process)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"capabilities":{"bounding":["CAP_SYS_RESOURCE","CAP_UNHEARD_OF"]},"oomScoreAdj":-999}`; string(raw) != want {
		t.Errorf("process = %s, want %s", raw, want)
	}
}
