// SPDX-License-Identifier: Apache-2.0

// Package descriptors says what a process has open, to find what it forgot to close.
package descriptors

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

// Open lists what the process has open, for instance "socket:[4711]" or "/dev/null", sorted; the process is a number
// or "self".
func Open(process string) ([]string, error) {
	dir := filepath.Join("/proc", process, "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list descriptors of process %s: %w", process, err)
	}
	var open []string
	for _, entry := range entries {
		// One that was closed meanwhile is not open; the descriptor of the list itself is such a one.
		if target, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil {
			open = append(open, target)
		}
	}
	slices.Sort(open)
	return open, nil
}

// Left returns what is in after and not in before. What Go's runtime opens once and keeps, epoll and its wake-up,
// does not count.
func Left(before, after []string) []string {
	before = slices.Clone(before)
	var left []string
	for _, target := range after {
		if i := slices.Index(before, target); i >= 0 {
			before = slices.Delete(before, i, i+1)
		} else if !strings.HasPrefix(target, "anon_inode:[event") {
			left = append(left, target)
		}
	}
	return left
}

// Closed waits until this process has nothing open that is not in before, for so long at most.
func Closed(ctx context.Context, patience time.Duration, before []string) error {
	return await.Within(ctx, patience, "all descriptors to be closed", func() error {
		after, err := Open("self")
		if left := Left(before, after); err == nil && len(left) > 0 {
			err = fmt.Errorf("left open: %v", left)
		}
		return err
	})
}
