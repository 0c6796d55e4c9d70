// SPDX-License-Identifier: Apache-2.0

// Command setup readies the machine for the test bed and says what it does.
//
//	go run ./cmd/setup packages   installs, with apt-get, the programs that are missing
//	go run ./cmd/setup node       builds the parts of a node, unless the cache has them; NEIGHPIN_E2E_CONTAINERD
//	                              chooses the release of containerd; with the newest come those of an upgrade
//
// The tests do both themselves when they need to; doing it first keeps their own time limit for the tests.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/neighpin/neighpin/e2e/internal/setup"
	"github.com/neighpin/neighpin/internal/cmd/command"
)

func main() {
	os.Exit(command.Run("setup", func(ctx context.Context) error { return run(ctx, os.Args[1:]) }))
}

func run(ctx context.Context, args []string) error {
	if len(args) == 1 {
		switch args[0] {
		case "packages":
			return setup.Distribution(ctx, os.Stderr)
		case "node":
			release, err := setup.ReleaseFromEnvironment()
			if err != nil {
				return err
			}
			programs, err := setup.Build(ctx, os.Stderr, release)
			if err != nil || release != setup.Newest {
				return err
			}
			return programs.BuildUpgrades(ctx, os.Stderr)
		}
	}
	return errors.New("usage: setup packages | setup node")
}
