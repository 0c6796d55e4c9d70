// SPDX-License-Identifier: Apache-2.0

// Command parts builds the parts of the test node that stand in e2e/parts and prints where they are.
//
//	go run ./cmd/parts list
//	go run ./cmd/parts build containerd gvisor cni
//
// build writes one folder a line to stdout, in the order asked for, and progress to stderr.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/internal/cmd/command"
)

func main() {
	os.Exit(command.Run("parts", func(ctx context.Context) error { return run(ctx, os.Args[1:], os.Stdout, os.Stderr) }))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	builder, err := parts.NewBuilder(stderr)
	if err != nil {
		return err
	}
	switch {
	case len(args) == 1 && args[0] == "list":
		names, err := builder.Names()
		for _, name := range names {
			fmt.Fprintln(stdout, name)
		}
		return err
	case len(args) > 1 && args[0] == "build":
		for _, name := range args[1:] {
			part, err := builder.Build(ctx, name)
			if err != nil {
				return err
			}
			fmt.Fprintln(stdout, part.Dir)
		}
		return nil
	default:
		return errors.New("usage: parts list | parts build NAME [NAME...]")
	}
}
