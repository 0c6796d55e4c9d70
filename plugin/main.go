// SPDX-License-Identifier: Apache-2.0

// Command neighpin pins the gateway neighbors of sandboxed pods: the daemon that
// does it (neighpin plugin), and the commands that look at it and do the same by
// hand. This package holds flags, wiring and what the commands print; the work is
// done in hooks and pkg, and what else the daemon has of its own in internal.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/neighpin/neighpin/hooks/nri"
)

// The exit codes, documented in docs/cli.md.
const (
	exitOK        = 0
	exitError     = 1
	exitUsage     = 2
	exitNotPinned = 3
)

// errNotPinned says that something is not pinned as it should be; what it is has
// been printed.
var errNotPinned = errors.New("not pinned as it should be")

func main() {
	if name := standsFor(os.Args[0]); name != "" {
		os.Exit(beRuntime(name, os.Args[1:], os.Stderr, os.LookupEnv))
	}
	args := os.Args[1:]
	if len(args) == 0 && nri.Launched() {
		// The runtime starts the plugins of its folder without arguments.
		args = []string{"plugin"}
	}
	os.Exit(execute(args, os.Stdout, os.Stderr, os.LookupEnv))
}

// execute runs one command line and returns its exit code.
func execute(args []string, stdout, stderr io.Writer, lookupEnv func(string) (string, bool)) int {
	app := &app{stdout: stdout, stderr: stderr, lookupEnv: lookupEnv}
	root := app.command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	code, decided := errors.AsType[exitCode](err)
	switch {
	case decided:
		return int(code)
	case err == nil:
		return exitOK
	case errors.Is(err, errNotPinned):
		return exitNotPinned
	}
	fmt.Fprintf(stderr, "neighpin: %s\n", strings.Map(shown, err.Error()))
	if !app.running {
		fmt.Fprintln(stderr, "Run 'neighpin --help' for usage.")
		return exitUsage
	}
	return exitError
}

// app is the world of one command line.
type app struct {
	stdout, stderr io.Writer
	lookupEnv      func(string) (string, bool)
	// running tells that the command line was understood: errors from then on
	// are not errors of usage.
	running bool
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "neighpin",
		Short:         "Pin the gateway neighbors of sandboxed pods",
		Long:          "neighpin pins the gateway neighbors (IP and MAC) of sandboxed pods in their network\nnamespace before the runtime reads it, and hands them on in an OCI annotation.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.New("no command given")
		},
	}
	root.AddCommand(a.pluginCommand(), a.statusCommand(), a.listCommand(), a.showCommand(), a.checkCommand(), a.bundleCommand())
	root.AddCommand(a.configCommand(), a.versionCommand(), a.runtimeCommand(), a.hookCommand(), a.hostStateCommand())
	root.AddCommand(a.namespaceCommands()...)
	return a.completed(documented(root))
}
