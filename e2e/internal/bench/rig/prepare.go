// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/neighpin/neighpin/e2e/internal/enclosure"
	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// pluginEnv tells the inside of the enclosure where the chained CNI plugin is.
const pluginEnv = "NEIGHPIN_BENCH_CNI_PIN"

// Plugin is where the chained CNI plugin (e2e/cmd/cni-pin) was put, as the inside of the enclosure knows it.
func Plugin() string { return os.Getenv(pluginEnv) }

// Children are what a section starts this program as, by the first argument. Each is given the other ones, and returns the exit code.
type Children map[string]func(args []string) int

// Main is what a program that measures does: it is the child that its arguments name, or runs inside in an enclosure of its own. It
// returns the exit code.
func Main(children Children, inside func() int) int {
	if len(os.Args) > 1 {
		if child, ok := children[os.Args[1]]; ok {
			return child(os.Args[2:])
		}
	}
	return enclosure.Main(prepare, inside)
}

// Reporting makes a child of a function that returns an error, which goes to standard error.
func Reporting(run func(context.Context, []string) error) func(args []string) int {
	return func(args []string) int {
		if err := run(context.Background(), args); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
		return 0
	}
}

// prepare installs and builds what is missing, outside the enclosure, and returns the environment for its inside.
func prepare(ctx context.Context) ([]string, error) {
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
