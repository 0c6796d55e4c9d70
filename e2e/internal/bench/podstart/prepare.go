// SPDX-License-Identifier: Apache-2.0

package podstart

import (
	"context"
	"os"
	"path/filepath"

	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// pluginEnv tells the inside of the enclosure where the chained CNI plugin is.
const pluginEnv = "NEIGHPIN_BENCH_CNI_PIN"

// Prepare installs and builds what is missing, outside the enclosure, and returns the environment for its inside. It is what
// enclosure.Main wants.
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
	plugin := filepath.Join(cache, "bench", "cni-pin")
	if err := builder.Program(ctx, e2e, "./cmd/cni-pin", plugin); err != nil {
		return nil, err
	}
	// Sections about a node's runtime have one: see setup.FromEnvironment.
	programs, err := setup.All(ctx, os.Stdout, setup.Newest)
	if err != nil {
		return nil, err
	}
	if err := programs.BuildReleases(ctx, os.Stdout, []string{setup.Oldest, setup.Newest}); err != nil {
		return nil, err
	}
	environment, err := programs.Environment()
	return append(environment, pluginEnv+"="+plugin), err
}

// Plugin is where Prepare has put the chained CNI plugin, as the inside of the enclosure knows it.
func Plugin() string { return os.Getenv(pluginEnv) }
