// SPDX-License-Identifier: Apache-2.0

// Package parts builds what a test node is made of from Go modules, once, into a cache outside the tree.
//
// A part is a folder e2e/parts/NAME that holds a Go module of its own, so that none of its dependencies
// reaches the product's go.mod. Its `tool` directives name the programs, of which the first gives the part
// its version; programs kept in the folder itself are built with them. An optional build.json adds linker
// flags and build tags.
//
// Parts end up in CACHE/NAME-VERSION-HASH, where the hash covers the folder's files, the Go release and the
// way of building, so a part is built again exactly when one of these changes. CACHE is
// $NEIGHPIN_CACHE/parts or, without it, neighpin/parts in the user's cache folder.
package parts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// CacheEnv names the environment variable that moves the cache to another folder.
	CacheEnv = "NEIGHPIN_CACHE"

	modulePath = "github.com/neighpin/neighpin/e2e"
)

// Part is a set of programs that stand ready in a folder.
type Part struct {
	// Name is the folder's name under e2e/parts.
	Name string
	// Version is that of the module which provides the part's first tool, as in "v2.4.2".
	Version string
	// Dir holds the programs and nothing else.
	Dir string
}

// Path is where the part's program of that name is.
func (p Part) Path(program string) string { return filepath.Join(p.Dir, program) }

// Builder builds parts. It is safe for concurrent use, also by several processes that share a cache.
type Builder struct {
	root     string
	cache    string
	progress io.Writer
	interval time.Duration
}

// NewBuilder returns a builder for the checkout around the working directory. It reports on progress, a
// line every few seconds while something is being built.
func NewBuilder(progress io.Writer) (*Builder, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	cache, err := Cache()
	if err != nil {
		return nil, err
	}
	return &Builder{root: root, cache: filepath.Join(cache, "parts"), progress: progress, interval: 5 * time.Second}, nil
}

// Root finds the folder e2e of the checkout that the working directory is in.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the working directory: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		for _, candidate := range []string{dir, filepath.Join(dir, "e2e")} {
			data, err := os.ReadFile(filepath.Join(candidate, "go.mod"))
			if err == nil && strings.HasPrefix(string(data), "module "+modulePath+"\n") {
				return candidate, nil
			}
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the module %s: neither %s nor a folder above it holds it; run this inside a checkout", modulePath, start)
		}
	}
}

// Cache is the folder for everything that outlives a run: $NEIGHPIN_CACHE, or neighpin in the user's cache
// folder.
func Cache() (string, error) {
	if dir := os.Getenv(CacheEnv); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder (set %s to name one): %w", CacheEnv, err)
	}
	return filepath.Join(dir, "neighpin"), nil
}

// Names lists the parts of the checkout.
func (b *Builder) Names() ([]string, error) {
	found, err := filepath.Glob(filepath.Join(b.root, "parts", "*", "go.mod"))
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(found))
	for _, file := range found {
		names = append(names, filepath.Base(filepath.Dir(file)))
	}
	return names, nil
}

// Build returns the part of that name, building it unless the cache has it. Of several builders one builds
// and the others wait for it. When ctx ends, the build is killed and leaves nothing behind.
func (b *Builder) Build(ctx context.Context, name string) (Part, error) {
	recipe, err := b.recipe(ctx, name)
	if err != nil {
		return Part{}, fmt.Errorf("read part %s: %w", name, err)
	}
	part := Part{Name: name, Version: recipe.version, Dir: filepath.Join(b.cache, recipe.key)}
	if ready(part.Dir) {
		return part, nil
	}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return Part{}, fmt.Errorf("make the cache: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(b.cache, name+".lock"), func() {
		fmt.Fprintf(b.progress, "%s %s: waiting for another build of it\n", name, recipe.version)
	})
	if err != nil {
		return Part{}, fmt.Errorf("lock part %s: %w", name, err)
	}
	defer unlock()
	if ready(part.Dir) {
		return part, nil
	}
	if err := b.compile(ctx, recipe, part); err != nil {
		return Part{}, fmt.Errorf("build part %s %s: %w", name, recipe.version, err)
	}
	return part, nil
}

// compile builds into a folder beside the final one and renames it, so that a part is there whole or not.
func (b *Builder) compile(ctx context.Context, r recipe, part Part) error {
	// Under the lock nobody else can be writing such a folder: it is left from a build that was killed.
	stale, err := filepath.Glob(filepath.Join(b.cache, part.Name+"-*.building"))
	if err != nil {
		return err
	}
	for _, dir := range stale {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove a build that was killed: %w", err)
		}
	}
	temporary := part.Dir + ".building"
	if err := os.Mkdir(temporary, 0o755); err != nil {
		return fmt.Errorf("make a folder to build in: %w", err)
	}
	defer os.RemoveAll(temporary)

	if err := b.run(ctx, command{
		label: part.Name + " " + part.Version,
		dir:   r.dir,
		args:  append([]string{"build", "-v", "-o", temporary + "/"}, r.args...),
	}); err != nil {
		return err
	}
	return os.Rename(temporary, part.Dir)
}

// Program builds one program of a local module, always through the Go command, which knows what changed.
// dir is a folder of that module, pkg its package, output the file to write.
func (b *Builder) Program(ctx context.Context, dir, pkg, output string) error {
	err := b.run(ctx, command{
		label: filepath.Base(output),
		dir:   dir,
		args:  []string{"build", "-v", "-trimpath", "-buildvcs=false", "-o", output, pkg},
	})
	if err != nil {
		return fmt.Errorf("build %s in %s: %w", pkg, dir, err)
	}
	return nil
}

// ModuleDir is where the sources of a module are that the part requires: some parts need more of a module
// than its programs. It may be read, never written.
func (b *Builder) ModuleDir(ctx context.Context, name, module string) (string, error) {
	dir := filepath.Join(b.root, "parts", name)
	if _, err := output(ctx, dir, "mod", "download", module); err != nil {
		return "", fmt.Errorf("download module %s of part %s: %w", module, name, err)
	}
	found, err := output(ctx, dir, "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return "", fmt.Errorf("find module %s of part %s: %w", module, name, err)
	}
	return found, nil
}

// ready tells whether a part is in the cache; the rename that put it there came last.
func ready(dir string) bool {
	_, err := os.Stat(dir)
	return !errors.Is(err, fs.ErrNotExist)
}
