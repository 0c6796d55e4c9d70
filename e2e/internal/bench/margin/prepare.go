// SPDX-License-Identifier: Apache-2.0

package margin

import (
	"context"
	"fmt"
	"os"

	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// Releases are containerd's that are measured: the oldest and the newest 2.x that a node can run.
func Releases() []string { return []string{"2.0", setup.Newest} }

// Prepare installs and builds what is missing, outside the enclosure, and returns the environment for its inside. It is what
// enclosure.Main wants.
func Prepare(ctx context.Context) ([]string, error) {
	if err := setup.Distribution(ctx, os.Stdout); err != nil {
		return nil, err
	}
	programs, err := setup.Build(ctx, os.Stdout, setup.Newest)
	if err != nil {
		return nil, err
	}
	if err := programs.BuildReleases(ctx, os.Stdout, Releases()); err != nil {
		return nil, fmt.Errorf("build containerd: %w", err)
	}
	return programs.Environment()
}
