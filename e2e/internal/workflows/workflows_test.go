// SPDX-License-Identifier: Apache-2.0

package workflows

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"

	"github.com/neighpin/neighpin/e2e/internal/parts"
)

func TestActionlintFindsNoFault(t *testing.T) {
	root, err := parts.Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(root), ".github", "workflows", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 3 {
		t.Fatalf("only the workflows %q: the test is blind", files)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range lint(t, file, content) {
			t.Error(fault)
		}
		// It must see what is wrong.
		for good, bad := range map[string]string{"runs-on: ": "runs-onto: ", "ubuntu-24.04": "ubuntu-1.04", "github.": "gitbub.", "contents: read": "contents: sometimes"} {
			if strings.Contains(string(content), good) && len(lint(t, file, []byte(strings.Replace(string(content), good, bad, 1)))) == 0 {
				t.Errorf("%s: %q in the place of %q is not noticed", filepath.Base(file), bad, good)
			}
		}
	}
}

// lint returns what actionlint finds. It runs no other program: neither shellcheck nor pyflakes, since all that is run is make.
func lint(t *testing.T, file string, content []byte) []*actionlint.Error {
	t.Helper()
	linter, err := actionlint.NewLinter(t.Output(), &actionlint.LinterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	faults, err := linter.Lint(file, content, nil)
	if err != nil {
		t.Fatal(err)
	}
	return faults
}
