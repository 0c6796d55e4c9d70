// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/neighpin/neighpin/hooks/oci"
	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

const (
	ownName = "neighpin"

	// runtimeFile is the configuration of the wrapper and the hook, runtimeEnv
	// the variable that names another one. There are no flags: the runtime's are
	// not ours, and engines give a runtime no arguments of the operator's.
	runtimeFile = "/etc/neighpin/runtime.yaml"
	runtimeEnv  = "NEIGHPIN_RUNTIME_CONFIG"
)

// pluginFile is how a runtime names the plugins that it launches itself.
var pluginFile = regexp.MustCompile(`^[0-9]{2}-`)

// exitCode is the outcome of a command that has said all there is to say.
type exitCode int

func (c exitCode) Error() string { return "exit code " + strconv.Itoa(int(c)) }

// RuntimeConfig is the file of the wrapper and the hook, documented in
// docs/oci.md.
type RuntimeConfig struct {
	Runtimes     map[string]string `json:"runtimes"`
	Enforce      bool              `json:"enforce"`
	Annotate     bool              `json:"annotate"`
	MaxNeighbors int               `json:"maxNeighbors"`
	StateDir     string            `json:"stateDir"`
}

func defaultRuntimeConfig() RuntimeConfig {
	return RuntimeConfig{Annotate: true, MaxNeighbors: neighbor.DefaultLimit, StateDir: defaultStateDir}
}

// loadRuntimeConfig reads the configuration; a file at the usual place may be
// missing. Beside an error it returns what could be understood.
func loadRuntimeConfig(lookupEnv func(string) (string, bool)) (RuntimeConfig, error) {
	config := defaultRuntimeConfig()
	path, named := lookupEnv(runtimeEnv)
	if !named {
		path = runtimeFile
	}
	data, err := os.ReadFile(path)
	if !named && errors.Is(err, fs.ErrNotExist) {
		return config, nil
	}
	if err != nil {
		return config, fmt.Errorf("read configuration: %w", err)
	}
	if err = yaml.UnmarshalStrict(data, &config); err != nil {
		config = defaultRuntimeConfig()
		_ = yaml.Unmarshal(data, &config) // as far as it goes
	} else {
		err = config.validate()
	}
	if err != nil {
		return config, fmt.Errorf("parse configuration %s: %w", path, err)
	}
	return config, nil
}

// validate reports everything that cannot be meant.
func (c RuntimeConfig) validate() error {
	var errs []error
	if c.MaxNeighbors < 1 || c.MaxNeighbors > annotation.MaxNeighbors {
		errs = append(errs, fmt.Errorf("maxNeighbors: %d, want 1 to %d", c.MaxNeighbors, annotation.MaxNeighbors))
	}
	if !filepath.IsAbs(c.StateDir) {
		errs = append(errs, fmt.Errorf("stateDir: %q, want an absolute path", c.StateDir))
	}
	for name, path := range c.Runtimes {
		if path == "" || !filepath.IsAbs(path) && filepath.Base(path) != path {
			errs = append(errs, fmt.Errorf("runtimes: %s: %q, want an absolute path or a name", name, path))
		}
	}
	return errors.Join(errs...)
}

func (c RuntimeConfig) options(name string) oci.Options {
	return oci.Options{
		Name: name, Runtimes: c.Runtimes, Enforce: c.Enforce, Annotate: c.Annotate,
		MaxNeighbors: c.MaxNeighbors, StateDir: c.StateDir,
	}
}

// standsFor is the name under which the binary was called instead of a runtime's,
// empty if it was called by its own, or as a plugin that the runtime launches.
func standsFor(program string) string {
	name := filepath.Base(program)
	if name == ownName || pluginFile.MatchString(name) {
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
	config, err := loadRuntimeConfig(lookupEnv)
	options := config.options(name)
	options.Fault = err
	return oci.Wrap(oci.Process{Args: args, Env: os.Environ(), Stderr: stderr, Exec: unix.Exec}, options)
}

func (a *app) runtimeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "runtime ARGS...",
		Short: "Stand in front of an OCI runtime: pin, then become the real one",
		Long: "Stand in front of an OCI runtime: pin what the command line is about, then become the real runtime, which gets\n" +
			"ARGS as they are. Installed under another name, such as neighpin-runsc, the binary does this without a command.\n" +
			"The configuration is " + runtimeFile + ", or the file that " + runtimeEnv + " names.",
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
