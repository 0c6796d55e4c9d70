// SPDX-License-Identifier: Apache-2.0

// Command manifests writes what is generated in deploy/: install.yaml from the Helm chart's default values, and the chart's
// copies of the alerts and the dashboard.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/neighpin/neighpin/e2e/manifests"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	deploy, err := manifests.Open(ctx, os.Stderr)
	if err != nil {
		return err
	}
	return deploy.Write(ctx)
}
