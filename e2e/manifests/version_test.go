// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A new release is one line in one file, and `make manifests`.
func TestTheVersionComesFromOneFile(t *testing.T) {
	ours := open(t)
	root := t.TempDir()
	for _, dir := range []string{"deploy/helm", "deploy/base", "deploy/observability"} {
		if err := os.CopyFS(filepath.Join(root, dir), os.DirFS(ours.Path(dir))); err != nil {
			t.Fatal(err)
		}
	}
	next := Deploy{Root: root, Helm: ours.Helm}
	if err := os.WriteFile(next.Path(versionFile), []byte("v0.77.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := next.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, wants := range map[string][]string{
		chartDir + "/Chart.yaml":     {"\nversion: 0.77.0\n", "\nappVersion: v0.77.0\n"},
		"deploy/base/daemonset.yaml": {"image: ghcr.io/neighpin/neighpin:v0.77.0\n"},
		installDoc:                   {"image: ghcr.io/neighpin/neighpin:v0.77.0\n", "app.kubernetes.io/version: \"v0.77.0\"\n"},
	} {
		text := read(t, next.Path(name))
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %q:\n%s", name, want, text)
			}
		}
	}
	out, err := next.Lint(t.Context())
	if err != nil {
		t.Errorf("helm lint: %v\n%s", err, out)
	}
	for _, wrong := range []string{"0.1.0", "v0.1", "v0.1.0+dirty", "latest", ""} {
		if err := os.WriteFile(next.Path(versionFile), []byte(wrong+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := next.Version(); err == nil {
			t.Errorf("%q was taken for the version %s", wrong, got)
		}
	}
}
