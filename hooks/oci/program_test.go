// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// file makes an executable of some content.
func file(t *testing.T, path, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheRealRuntimeIsFound(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	t.Chdir(filepath.Dir(file(t, filepath.Join(t.TempDir(), "runx"), "the caller's", 0o700)))
	real := file(t, filepath.Join(second, "runx"), "real", 0o700)
	if err := os.Symlink(self, filepath.Join(first, "runx")); err != nil {
		t.Fatal(err)
	}
	file(t, filepath.Join(second, "other"), "other", 0o700)
	env := []string{"PATH=.:" + first + ":" + second, "PATH=/nonexistent"}
	for name, tc := range map[string]struct {
		options Options
		want    string
	}{
		"by its name, itself passed over": {Options{Name: "neighpin-runx"}, real},
		"by a name in the configuration":  {Options{Name: "runx", Runtimes: map[string]string{"runx": "runx"}}, real},
		"by a path":                       {Options{Name: "neighpin-runx", Runtimes: map[string]string{"neighpin-runx": filepath.Join(second, "other")}}, filepath.Join(second, "other")},
		"neighpin runtime":                {Options{Name: "neighpin", Runtimes: map[string]string{"neighpin": real}}, real},
	} {
		if got, err := tc.options.runtime(env); err != nil || got != tc.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, tc.want)
		}
	}
	for _, env := range [][]string{nil, {"PATH="}} {
		if got, err := lookUp("sh", env); err != nil || filepath.Base(got) != "sh" {
			t.Errorf("without PATH: %q, %v", got, err)
		}
	}
}

func TestARuntimeThatCannotBeIsNamed(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	copied := file(t, filepath.Join(dir, "copy"), string(program), 0o700)
	plain := file(t, filepath.Join(dir, "plain"), "x", 0o600)
	for name, tc := range map[string]struct {
		runtime, says string
	}{
		"itself":           {self, "the wrapper itself"},
		"a link to itself": {link, "the wrapper itself"},
		"a copy of itself": {copied, "the wrapper itself"},
		"not executable":   {plain, "not an executable file"},
		"a folder":         {dir, "not an executable file"},
		"missing":          {filepath.Join(dir, "none"), "no such file"},
		"only itself":      {"copy", "the wrapper itself"},
		"nowhere in PATH":  {"none", "not exist"},
		"relative":         {"a/b", "neither an absolute path nor a name"},
	} {
		o := Options{Name: "n", Runtimes: map[string]string{"n": tc.runtime}}
		if path, err := o.runtime([]string{"PATH=" + dir}); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %q, %v, want %q", name, path, err, tc.says)
		}
	}
	// The same size is not the same program, wherever it differs.
	for _, at := range []int{0, len(program) - 1} {
		program[at]++
		other := file(t, filepath.Join(dir, "other"), string(program), 0o700)
		program[at]--
		if got, err := lookUp(other, nil); err != nil || got != other {
			t.Errorf("%q, %v", got, err)
		}
	}
	for _, name := range []string{"neighpin", "neighpin-", "runc"} {
		if path, err := (Options{Name: name}).runtime(nil); err == nil || !strings.Contains(err.Error(), "runtimes") {
			t.Errorf("%s: %q, %v", name, path, err)
		}
	}
}
