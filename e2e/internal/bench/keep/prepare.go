// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"context"
	"os"
	"path/filepath"

	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// Prepare installs strace and builds the daemon, outside the enclosure, and returns the environment for its inside. It is
// what enclosure.Main wants where this section runs alone.
func Prepare(ctx context.Context) ([]string, error) {
	if err := setup.Bench(ctx, os.Stdout); err != nil {
		return nil, err
	}
	builder, err := parts.NewBuilder(os.Stdout)
	if err != nil {
		return nil, err
	}
	e2e, err := parts.Root()
	if err != nil {
		return nil, err
	}
	cache, err := parts.Cache()
	if err != nil {
		return nil, err
	}
	programs := setup.Programs{Own: filepath.Join(cache, "bench")}
	if err := builder.Program(ctx, filepath.Dir(e2e), "./plugin", programs.Neighpin()); err != nil {
		return nil, err
	}
	return programs.Environment()
}
