// SPDX-License-Identifier: Apache-2.0

// Command setup readies the machine for the tests, and says what it does.
//
//	go run ./cmd/setup packages    installs what is missing of the distribution
//	go run ./cmd/setup node        the same, and builds what a test node is made of
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/neighpin/neighpin/e2e/internal/setup"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "setup:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, progress io.Writer) error {
	if len(args) == 1 && args[0] == "packages" {
		return setup.Distribution(ctx, progress)
	}
	if len(args) == 1 && args[0] == "node" {
		_, err := setup.All(ctx, progress)
		return err
	}
	return errors.New("usage: setup packages | setup node")
}
