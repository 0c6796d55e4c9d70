// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/hooks/oci"
	"github.com/neighpin/neighpin/internal/config"
)

const (
	ownName = "neighpin"
	// installed is what `go install` calls the program, after its folder.
	installed = "plugin"
)

// pluginFile is how a runtime names the plugins that it launches itself.
var pluginFile = regexp.MustCompile(`^[0-9]{2}-`)

// exitCode is the outcome of a command that has said all there is to say.
type exitCode int

func (c exitCode) Error() string { return "exit code " + strconv.Itoa(int(c)) }

// runtimeOptions are the wrapper's and the hook's, called by a name.
func runtimeOptions(c config.Runtime, name string) oci.Options {
	return oci.Options{
		Name: name, Runtimes: c.Runtimes, Enforce: c.Enforce, Annotate: c.Annotate, ExcludeNamespaces: c.ExcludeNamespaces,
		MaxNeighbors: c.MaxNeighbors, StateDir: c.StateDir,
	}
}

// standsFor is the name under which the binary was called instead of a runtime's,
// empty if it was called by its own, or as a plugin that the runtime launches.
func standsFor(program string) string {
	name := filepath.Base(program)
	if name == ownName || name == installed || pluginFile.MatchString(name) {
		return ""
	}
	return name
}

// beRuntime is the OCI runtime wrapper. It returns only when there is no runtime
// to become.
func beRuntime(name string, args []string, stderr io.Writer, lookupEnv func(string) (string, bool)) int {
	// This thread becomes the runtime. Being locked, it is none of those that
	// enter the pod's namespace.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	conf, err := config.LoadRuntime(lookupEnv)
	options := runtimeOptions(conf, name)
	options.Fault = err
	return oci.Wrap(oci.Process{Args: args, Env: os.Environ(), Stderr: stderr, Exec: unix.Exec}, options)
}

func (a *app) runtimeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "runtime ARGS...",
		Short: "Stand in front of an OCI runtime: pin, then become the real one",
		Long: "Stand in front of an OCI runtime: pin what the command line is about, then become the real runtime, which gets\n" +
			"ARGS as they are. Installed under another name, such as neighpin-runsc, the binary does this without a command.\n" +
			"The configuration is " + config.RuntimeFile + ", or the file that " + config.RuntimeEnv + " names.",
		DisableFlagParsing: true, // they are the runtime's
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
				return cmd.Help()
			}
			a.running = true
			return exitCode(beRuntime(ownName, args, a.stderr, a.lookupEnv))
		},
	}
}
