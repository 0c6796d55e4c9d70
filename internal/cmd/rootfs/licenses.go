// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// legal matches the names of files that a license asks to pass on. Sources that are called so are code.
var legal = regexp.MustCompile(`(?i)^(licen[cs]e|copying|copyright|notice|patents)([-._].*)?$`)

// listed is what `go list` says of a package.
type listed struct {
	Dir      string
	Standard bool
	Module   *struct {
		Path, Dir string
		Main      bool
	}
}

// unit is what is licensed as a whole: a module, or Go with its standard library.
type unit struct {
	name, dir string
	// packages are the folders of the packages that are linked.
	packages []string
}

// collectLicenses copies to out the legal files of every module of which a package is linked, and of Go. In each the packages'
// own folders count and those above them, up to the module's: code that a module took over comes with a license of its own.
func collectLicenses(ctx context.Context, arch, out string) error {
	goroot, err := goOutput(ctx, arch, "env", "GOROOT")
	if err != nil {
		return fmt.Errorf("find Go's own folder: %w", err)
	}
	text, err := goOutput(ctx, arch, "list", "-deps", "-json=Dir,Standard,Module", "./plugin")
	if err != nil {
		return fmt.Errorf("list the packages that are linked: %w", err)
	}
	packages, err := parseList(text)
	if err != nil {
		return err
	}
	for _, u := range group(packages, string(bytes.TrimSpace(goroot))) {
		if err := u.copyLegal(filepath.Join(out, filepath.FromSlash(u.name))); err != nil {
			return fmt.Errorf("collect the license of %s: %w", u.name, err)
		}
	}
	return nil
}

// goOutput runs a short Go command.
func goOutput(ctx context.Context, arch string, args ...string) ([]byte, error) {
	output, err := goCommand(ctx, arch, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, exit.Stderr)
	}
	return output, err
}

// parseList reads the objects that `go list -json` prints one after another.
func parseList(text []byte) ([]listed, error) {
	var all []listed
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var one listed
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("parse the list of packages: %w", err)
		}
		all = append(all, one)
	}
}

// group sorts packages by who licenses them. The project's own license is copied by itself.
func group(packages []listed, goroot string) []unit {
	var units []unit
	for _, p := range packages {
		name, dir := "go", goroot
		if !p.Standard {
			if p.Module.Main {
				continue
			}
			name, dir = p.Module.Path, p.Module.Dir
		}
		i := slices.IndexFunc(units, func(u unit) bool { return u.name == name })
		if i < 0 {
			i = len(units)
			units = append(units, unit{name: name, dir: dir})
		}
		units[i].packages = append(units[i].packages, p.Dir)
	}
	return units
}

// copyLegal copies the unit's legal files to out, at the places that they have in it. A unit with none is an error: nothing
// may be passed on without knowing how.
func (u unit) copyLegal(out string) error {
	seen := map[string]bool{}
	found := false
	for _, dir := range u.packages {
		for ; !seen[dir]; dir = filepath.Dir(dir) {
			seen[dir] = true
			relative, err := filepath.Rel(u.dir, dir)
			if err != nil || strings.HasPrefix(relative, "..") {
				return fmt.Errorf("package folder %s is not below %s", dir, u.dir)
			}
			some, err := copyLegal(dir, filepath.Join(out, relative))
			if err != nil {
				return err
			}
			found = found || some
			if relative == "." {
				break
			}
		}
	}
	if !found {
		return fmt.Errorf("there is no file called like a license in %s", u.dir)
	}
	return nil
}

// copyLegal copies the legal files of one folder and says whether there were some.
func copyLegal(from, to string) (bool, error) {
	entries, err := os.ReadDir(from)
	if err != nil {
		return false, fmt.Errorf("read the folder: %w", err)
	}
	found := false
	for _, entry := range entries {
		name := entry.Name()
		if !entry.Type().IsRegular() || !legal.MatchString(name) || filepath.Ext(name) == ".go" {
			continue
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return false, fmt.Errorf("make a folder: %w", err)
		}
		if err := copyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return false, err
		}
		found = true
	}
	return found, nil
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("copy a license: %w", err)
	}
	if err := os.WriteFile(to, content, 0o644); err != nil {
		return fmt.Errorf("copy a license: %w", err)
	}
	return nil
}
