// SPDX-License-Identifier: Apache-2.0

// Command manifests writes what is generated in deploy/: install.yaml from the Helm chart's default values, and the chart's
// copies of the alerts and the dashboard.
package main

import (
	"context"
	"os"

	"github.com/neighpin/neighpin/e2e/manifests"
	"github.com/neighpin/neighpin/internal/cmd/command"
)

func main() { os.Exit(command.Run("manifests", run)) }

func run(ctx context.Context) error {
	deploy, err := manifests.Open(ctx, os.Stderr)
	if err != nil {
		return err
	}
	return deploy.Write(ctx)
}
