// SPDX-License-Identifier: Apache-2.0

package parts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/mod/modfile"
)

// buildFile, if a part has one, says how its programs are linked.
const buildFile = "build.json"

// settings are the contents of build.json.
type settings struct {
	// LDFlags are added to those that strip symbols: versions set with -X, for example.
	LDFlags string `json:"ldflags"`
	// Tags are build tags, separated by commas.
	Tags string `json:"tags"`
}

// recipe is all that decides what a part's build yields.
type recipe struct {
	dir     string
	version string
	// key names the part in the cache.
	key string
	// args are the go build arguments after the output folder.
	args []string
}

// recipe reads a part's folder.
func (b *Builder) recipe(ctx context.Context, name string) (recipe, error) {
	r := recipe{dir: filepath.Join(b.root, "parts", name)}
	files, err := readFolder(r.dir)
	if err != nil {
		return recipe{}, err
	}
	if r.version, err = version(files["go.mod"]); err != nil {
		return recipe{}, err
	}
	set, err := parseSettings(files[buildFile])
	if err != nil {
		return recipe{}, err
	}
	r.args = []string{"-trimpath", "-buildvcs=false", "-ldflags", strings.TrimSpace("-s -w " + set.LDFlags)}
	if set.Tags != "" {
		r.args = append(r.args, "-tags", set.Tags)
	}
	r.args = append(r.args, "tool")
	for file := range files {
		if strings.HasSuffix(file, ".go") {
			r.args = append(r.args, "./...")
			break
		}
	}
	// Asked in the part's folder: its go.mod may select a toolchain of its own.
	release, err := output(ctx, r.dir, "env", "GOVERSION")
	if err != nil {
		return recipe{}, fmt.Errorf("ask the Go command for its release: %w", err)
	}
	r.key = fmt.Sprintf("%s-%s-%s", name, r.version, digest(files, release, runtime.GOARCH, strings.Join(r.args, "\x00")))
	return r, nil
}

// readFolder returns the contents of all files below dir, by path relative to it.
func readFolder(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[relative] = data
		return nil
	})
	if err != nil {
		return nil, err
	}
	if files["go.mod"] == nil || files["go.sum"] == nil {
		return nil, fmt.Errorf("%s: a part needs go.mod and go.sum", dir)
	}
	return files, nil
}

// version is that of the module which provides the first tool.
func version(gomod []byte) (string, error) {
	parsed, err := modfile.ParseLax("go.mod", gomod, nil)
	if err != nil {
		return "", err
	}
	strict, err := modfile.Parse("go.mod", gomod, nil)
	if err != nil {
		return "", err
	}
	if len(strict.Tool) == 0 {
		return "", errors.New("go.mod names no tool")
	}
	tool, best, found := strict.Tool[0].Path, "", ""
	for _, require := range parsed.Require {
		module := require.Mod.Path
		if (tool == module || strings.HasPrefix(tool, module+"/")) && len(module) > len(best) {
			best, found = module, require.Mod.Version
		}
	}
	if best == "" {
		return "", fmt.Errorf("go.mod requires no module that provides its first tool %s", tool)
	}
	return found, nil
}

// parseSettings reads build.json strictly; a part without one has none.
func parseSettings(data []byte) (settings, error) {
	var set settings
	if data == nil {
		return set, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&set); err != nil {
		return settings{}, fmt.Errorf("parse %s: %w", buildFile, err)
	}
	return set, nil
}

// digest condenses files and further inputs into a short name. encoding/json sorts the keys of a map, which
// makes it the same every time.
func digest(files map[string][]byte, further ...string) string {
	data, err := json.Marshal(struct {
		Files   map[string][]byte
		Further []string
	}{files, further})
	if err != nil {
		panic(err) // maps of bytes and strings always marshal
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:6])
}
