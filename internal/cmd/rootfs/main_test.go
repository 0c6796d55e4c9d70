// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLegalFilesAreThoseAboveThePackagesAndNoOthers(t *testing.T) {
	root, out := t.TempDir(), t.TempDir()
	for _, path := range []string{
		"LICENSE", "NOTICE.txt", "license.go", "README.md", "LICENSES_test/x",
		"taken/over/COPYING", "taken/over/code/p.go",
		"unused/LICENSE",
	} {
		write(t, filepath.Join(root, path))
	}
	u := unit{name: "m", dir: root, packages: []string{filepath.Join(root, "taken", "over", "code"), root}}
	if err := u.copyLegal(out); err != nil {
		t.Fatal(err)
	}
	if got, want := files(t, out), []string{"LICENSE", "NOTICE.txt", "taken/over/COPYING"}; !slices.Equal(got, want) {
		t.Errorf("copied %q, want %q", got, want)
	}
}

func TestAModuleWithoutALicenseIsRefused(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "p.go"))
	u := unit{name: "m", dir: root, packages: []string{root}}
	if err := u.copyLegal(t.TempDir()); err == nil || !strings.Contains(err.Error(), root) {
		t.Errorf("error %v, want one that names %s", err, root)
	}
}

func TestPackagesAreGroupedByWhoLicensesThem(t *testing.T) {
	packages, err := parseList([]byte(`{"Dir":"/go/src/fmt","Standard":true}
{"Dir":"/mod/a@v1/x","Module":{"Path":"a","Dir":"/mod/a@v1"}}
{"Dir":"/mod/a@v1/y","Module":{"Path":"a","Dir":"/mod/a@v1"}}
{"Dir":"/src/plugin","Module":{"Path":"own","Dir":"/src","Main":true}}
`))
	if err != nil {
		t.Fatal(err)
	}
	units := group(packages, "/go")
	if len(units) != 2 || units[0].name != "go" || units[1].name != "a" || len(units[1].packages) != 2 {
		t.Errorf("grouped into %+v", units)
	}
}

func TestAFolderThatIsThereIsRefused(t *testing.T) {
	if err := run(t.Context(), []string{"-out", t.TempDir()}); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "remove it first") {
		t.Errorf("error %v, want one that says what to do", err)
	}
}

func TestModesAndTimesTellNothing(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"neighpin", "licenses/m/LICENSE"} {
		write(t, filepath.Join(dir, path))
	}
	if err := os.Chmod(filepath.Join(dir, "licenses"), 0o700); err != nil {
		t.Fatal(err)
	}
	date := time.Unix(1700000000, 0)
	if err := settle(dir, date); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]fs.FileMode{".": 0o755, "neighpin": 0o755, "licenses": 0o755, "licenses/m/LICENSE": 0o644} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode || !info.ModTime().Equal(date) {
			t.Errorf("%s has mode %s and time %s", path, info.Mode(), info.ModTime())
		}
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// files are the paths below dir, sorted.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
