// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"os"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/enclosure"
)

// TestMain gathers what a cluster is made of and runs the tests in an enclosure; on a given cluster there is nothing to gather.
func TestMain(m *testing.M) {
	if os.Getenv(kubeconfigEnv) != "" {
		os.Exit(m.Run())
	}
	os.Exit(enclosure.Main(func(ctx context.Context) ([]string, error) {
		return Gather(ctx, os.Stderr)
	}, m.Run))
}
