// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/neighpin/neighpin/e2e/internal/parts"
)

// jansson is the one library that the consumer is written with.
const jansson = "libjansson-dev"

// Consumer compiles e2e/consumer, the reader of the annotation in C, to a file, after it has installed what that takes.
func Consumer(ctx context.Context, progress io.Writer, to string) error {
	if _, err := os.Stat("/usr/include/jansson.h"); errors.Is(err, os.ErrNotExist) {
		if err := aptInstall(ctx, progress, []string{jansson}); err != nil {
			return err
		}
	}
	root, err := parts.Root()
	if err != nil {
		return err
	}
	sources, err := filepath.Glob(filepath.Join(root, "consumer", "src", "*.c"))
	if err != nil {
		return err
	}
	// It is fed with hostile values: what C leaves undefined ends it.
	flags := []string{"-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror",
		"-fsanitize=address,undefined", "-fno-sanitize-recover=all"}
	args := slices.Concat(flags, sources, []string{"-ljansson", "-o", to})
	cmd := exec.CommandContext(ctx, "gcc", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile e2e/consumer: %w: %s", err, out)
	}
	return nil
}
