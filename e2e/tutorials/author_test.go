// SPDX-License-Identifier: Apache-2.0

package tutorials

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/enclosure"
	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/e2e/internal/setup"
	"github.com/neighpin/neighpin/e2e/internal/tutorial"
)

// binEnv hands the folder with neighpin on to the inside of the enclosure.
const binEnv = "NEIGHPIN_E2E_BIN"

func TestMain(m *testing.M) {
	os.Exit(enclosure.Main(prepare, m.Run))
}

// prepare builds what `make build` would, without touching the checkout's bin.
func prepare(ctx context.Context) ([]string, error) {
	if err := setup.Distribution(ctx, os.Stderr); err != nil {
		return nil, err
	}
	root, err := parts.Root()
	if err != nil {
		return nil, err
	}
	builder, err := parts.NewBuilder(os.Stderr)
	if err != nil {
		return nil, err
	}
	cache, err := parts.Cache()
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(cache, "own", "tutorials")
	return []string{binEnv + "=" + bin}, builder.Program(ctx, filepath.Dir(root), "./plugin", filepath.Join(bin, "neighpin"))
}

func TestRuntimeAuthorsTutorialIsFollowedWordForWord(t *testing.T) {
	root, err := parts.Root()
	if err != nil {
		t.Fatal(err)
	}
	checkout := filepath.Dir(root)
	blocks, err := tutorial.Read(filepath.Join(checkout, "docs", "tutorial-runtime-author.md"))
	if err != nil {
		t.Fatal(err)
	}
	program, err := tutorial.Only(blocks, "go")
	if err != nil {
		t.Fatal(err)
	}
	// The page has the reader work there: it is inside the module, and git ignores it.
	folder := filepath.Join(checkout, "bin", "tutorial")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.WriteFile(filepath.Join(folder, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	shell := tutorial.Shell{Dir: checkout, Env: append(os.Environ(), "PATH="+os.Getenv(binEnv)+":"+os.Getenv("PATH"))}
	said, err := shell.Run(t.Context(), blocks)
	t.Log(said)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the page leaves %s behind: %v", folder, err)
	}
}
