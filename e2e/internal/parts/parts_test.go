// SPDX-License-Identifier: Apache-2.0

package parts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// checkout makes a folder with one part, whose only tool is a program of its own module, so that building it needs
// no network.
func checkout(t *testing.T) *Builder {
	t.Helper()
	root := t.TempDir()
	write(t, root, "parts/hello/go.mod", "module example.org/hello\n\ngo 1.26.0\n\ntool example.org/hello/hello\n\nrequire example.org/hello v1.2.3\n\nreplace example.org/hello => ./\n")
	write(t, root, "parts/hello/go.sum", "")
	write(t, root, "parts/hello/hello/main.go", "package main\n\nfunc main() { println(\"hello\") }\n")
	return &Builder{root: root, cache: filepath.Join(t.TempDir(), "parts"), progress: &bytes.Buffer{}, interval: time.Hour}
}

func write(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTheRealPartsHaveAVersion(t *testing.T) {
	b, err := NewBuilder(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	names, err := b.Names()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 3 {
		t.Fatalf("parts %v", names)
	}
	for _, name := range names {
		r, err := b.recipe(t.Context(), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !strings.HasPrefix(r.version, "v") {
			t.Errorf("%s: version %q", name, r.version)
		}
	}
}

func TestTwoBuildersBuildOnce(t *testing.T) {
	b := checkout(t)
	var together sync.WaitGroup
	dirs := make([]string, 2)
	for i := range dirs {
		together.Go(func() {
			part, err := b.Build(t.Context(), "hello")
			if err != nil {
				t.Error(err)
				return
			}
			dirs[i] = part.Dir
		})
	}
	together.Wait()
	if t.Failed() {
		return
	}
	if dirs[0] != dirs[1] || !strings.Contains(filepath.Base(dirs[0]), "hello-v1.2.3-") {
		t.Fatalf("built %v", dirs)
	}
	out, err := exec.Command(filepath.Join(dirs[0], "hello")).CombinedOutput()
	if err != nil || string(out) != "hello\n" {
		t.Fatalf("the program says %q, %v", out, err)
	}
	built, err := os.Stat(dirs[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Build(t.Context(), "hello"); err != nil {
		t.Fatal(err)
	}
	again, err := os.Stat(dirs[0])
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(built, again) {
		t.Error("it was built again")
	}
}

func TestAChangedPartIsAnother(t *testing.T) {
	b := checkout(t)
	before, err := b.recipe(t.Context(), "hello")
	if err != nil {
		t.Fatal(err)
	}
	write(t, b.root, "parts/hello/hello/main.go", "package main\n\nfunc main() {}\n")
	after, err := b.recipe(t.Context(), "hello")
	if err != nil {
		t.Fatal(err)
	}
	if before.key == after.key {
		t.Errorf("both are %s", before.key)
	}
}

func TestABuildThatFailsSaysWhyAndLeavesNothing(t *testing.T) {
	b := checkout(t)
	write(t, b.root, "parts/hello/hello/main.go", "package main\n\nfunc main() { undefinedHere() }\n")
	_, err := b.Build(t.Context(), "hello")
	if err == nil || !strings.Contains(err.Error(), "undefinedHere") {
		t.Fatalf("error %v does not quote the compiler", err)
	}
	if err := onlyLocks(b.cache); err != nil {
		t.Error(err)
	}
}

func TestACancelledBuildLeavesNothing(t *testing.T) {
	b := checkout(t)
	ctx, cancel := context.WithCancel(t.Context())
	recipe, err := b.recipe(ctx, "hello")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		t.Fatal(err)
	}
	cancel()
	err = b.compile(ctx, recipe, Part{Name: "hello", Dir: filepath.Join(b.cache, recipe.key)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	if err := onlyLocks(b.cache); err != nil {
		t.Error(err)
	}
}

// onlyLocks says what else there is in a cache.
func onlyLocks(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".lock") {
			return fmt.Errorf("there is %s", entry.Name())
		}
	}
	return nil
}

func TestALockIsWaitedForAndItsWaitEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path, func() {})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := lock(ctx, path, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	unlock()
	unlock, err = lock(t.Context(), path, func() { t.Error("the lock is still taken") })
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestSettingsAreStrict(t *testing.T) {
	if _, err := parseSettings([]byte(`{"ldflag": "-X a=b"}`)); err == nil {
		t.Error("a misspelt key is accepted")
	}
	set, err := parseSettings([]byte(`{"ldflags": "-X a=b", "tags": "x"}`))
	if err != nil || set != (settings{LDFlags: "-X a=b", Tags: "x"}) {
		t.Errorf("%+v, %v", set, err)
	}
}
