// SPDX-License-Identifier: Apache-2.0

package enclosure

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

// removeCgroups removes the cgroup of that name, with those below it, from every hierarchy. Processes that
// were just killed may stay in theirs for a moment.
func removeCgroups(parent string) error {
	var roots []string
	// Version 2 has one hierarchy, version 1 one per controller below the same folder.
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		found, err := filepath.Glob(pattern + parent)
		if err != nil {
			return err
		}
		roots = append(roots, found...)
	}
	for _, root := range roots {
		err := await.Within(context.Background(), time.Minute, "the end of "+root, func() error { return removeTree(root) })
		if err != nil {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	return nil
}

// removeTree removes a cgroup and those below it. The files in it are the kernel's and go with it.
func removeTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
