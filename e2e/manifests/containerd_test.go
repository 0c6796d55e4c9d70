// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/parts"
)

// Each drop-in is read by the releases that it is for, as an import of a configuration that has nothing else, and what it says is
// in what containerd then makes of its configuration.
func TestContainerdTakesTheDropIns(t *testing.T) {
	d := open(t)
	builder, err := parts.NewBuilder(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	const old, current = "containerd17", "containerd"
	seen := map[string]bool{}
	for _, c := range []struct {
		file, release string
		says          []string
	}{
		{"containerd/nri-1.7.toml", old, []string{"io.containerd.nri.v1.nri", "disable = false"}},
		{"containerd/nri-timeouts.toml", old, []string{`plugin_registration_timeout = "15s"`, `plugin_request_timeout = "5s"`}},
		{"containerd/nri-timeouts.toml", current, []string{"plugin_registration_timeout = '15s'", "plugin_request_timeout = '5s'"}},
		{"containerd/nri-validator.toml", current, []string{"default_validator]\n      enable = true"}},
		{"containerd/wrapper-runsc-1.7.toml", old, []string{"io.containerd.runsc.v1", `"/etc/containerd/runsc.toml"`}},
		{"oci/containerd-runsc.toml", current, []string{"io.containerd.runsc.v1", "'/etc/containerd/runsc.toml'"}},
		{"oci/containerd-runc.toml", current, []string{"'/usr/local/bin/neighpin-runc'"}},
	} {
		seen[filepath.Base(c.file)] = true
		part, err := builder.Build(t.Context(), c.release)
		if err != nil {
			t.Fatal(err)
		}
		without := dump(t, part, "")
		with := dump(t, part, d.Path("deploy/"+c.file))
		for _, want := range c.says {
			if !strings.Contains(with, want) {
				t.Errorf("containerd %s with %s lacks %q:\n%s", part.Version, c.file, want, with)
			}
		}
		if with == without {
			t.Errorf("%s changes nothing for containerd %s", c.file, part.Version)
		}
	}
	files, err := filepath.Glob(d.Path("deploy/containerd/*.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !seen[filepath.Base(file)] {
			t.Errorf("no release of containerd reads %s in this test", file)
		}
	}
}

// dump is the configuration that containerd comes to with one import, without the line that names it.
func dump(t *testing.T, part parts.Part, imported string) string {
	t.Helper()
	version := 3
	if strings.HasPrefix(part.Version, "v1.") {
		version = 2
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config.toml")
	write(t, config, fmt.Sprintf("version = %d\nroot = \"/x/root\"\nstate = \"/x/state\"\nimports = [%q]\n", version, imported))
	if imported == "" {
		write(t, config, fmt.Sprintf("version = %d\nroot = \"/x/root\"\nstate = \"/x/state\"\n", version))
	}
	cmd := exec.CommandContext(t.Context(), part.Path("containerd"), "--config", config, "config", "dump")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("containerd %s with %s: %v\n%s", part.Version, imported, err, stderr.String())
	}
	var kept []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "imports = ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}
