// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/enclosure"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// bed is the node of this package's tests.
var bed struct{ *node.Node }

func TestMain(m *testing.M) {
	os.Exit(enclosure.Main(prepare, func() int { return run(m) }))
}

func prepare(ctx context.Context) ([]string, error) {
	release, err := setup.ReleaseFromEnvironment()
	if err != nil {
		return nil, err
	}
	programs, err := setup.All(ctx, os.Stderr, release)
	if err != nil {
		return nil, err
	}
	environment, err := programs.Environment()
	return environment, errors.Join(err, setup.Browser(ctx, os.Stderr))
}

func run(m *testing.M) int {
	ctx := context.Background()
	programs, err := setup.FromEnvironment()
	if err == nil {
		bed.Node, err = node.Start(ctx, programs, node.Options{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "statuspage:", err)
		return 1
	}
	code := m.Run()
	if err := bed.Close(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "statuspage: close the node:", err)
		code = max(code, 1)
	}
	return code
}
