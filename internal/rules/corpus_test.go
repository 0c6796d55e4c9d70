// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// Go reads testdata/fuzz/NAME for the target NAME of the same package, and says nothing of a
// folder that no target reads: what was found once is not tried again when the target moves.
func TestEveryFuzzCorpusHasItsTarget(t *testing.T) {
	seen := map[string]bool{}
	for _, path := range goFiles(t) {
		seen[filepath.Dir(path)] = true
	}
	corpora := 0
	for dir := range seen {
		folders, err := filepath.Glob(filepath.Join(root(t), dir, "testdata", "fuzz", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, folder := range folders {
			corpora++
			if name := filepath.Base(folder); !hasTarget(t, dir, name) {
				t.Errorf("%s/testdata/fuzz/%s: no test of that package has func %s: move the corpus to the target's package", dir, name, name)
			}
		}
	}
	if corpora == 0 {
		t.Error("no corpus is found: nothing was checked")
	}
	if hasTarget(t, "pkg/annotation", "FuzzOfNoPackage") {
		t.Error("a target is found that does not exist")
	}
}

// hasTarget tells whether a package's tests have a function of that name.
func hasTarget(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(t), dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(source, []byte("\nfunc "+name+"(")) {
			return true
		}
	}
	return false
}
