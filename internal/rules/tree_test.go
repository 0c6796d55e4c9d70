// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// root returns the repository: two folders above this one, which is where go
// test runs a package's tests.
func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// goFiles returns the Go files of every module of the repository, relative to
// its root.
func goFiles(t testing.TB) []string {
	t.Helper()
	files := filesWith(t, ".go")
	if len(files) == 0 {
		t.Fatalf("no Go file below %s", root(t))
	}
	return files
}

// filesWith returns the files of that extension, relative to the root. Folders
// that hold no sources of ours are left out.
func filesWith(t testing.TB, extension string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			if name == "testdata" || name == "bin" || strings.HasPrefix(name, ".") && path != root(t) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) == extension {
			rel, err := filepath.Rel(root(t), path)
			if err != nil {
				return err
			}
			files = append(files, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("list the files below %s: %v", root(t), err)
	}
	return files
}
