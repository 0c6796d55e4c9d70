// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/internal/status"
)

func (a *app) configCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration",
		Long:  "Print the configuration that 'neighpin plugin' would use with the same file, environment and flags, as a file.",
		Args:  cobra.NoArgs,
	}
	a.configFlags(cmd, &path)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		conf, err := a.loader(cmd, path).Load("")
		if err != nil {
			return err
		}
		a.running = true
		data, err := yaml.Marshal(conf)
		if err != nil {
			return fmt.Errorf("encode configuration: %w", err)
		}
		_, err = a.stdout.Write(data)
		return err
	}
	return cmd
}

// loader puts together the configuration that a command line asks for.
func (a *app) loader(cmd *cobra.Command, path string) config.Loader {
	return config.Loader{Path: path, Given: cmd.Flags(), LookupEnv: a.lookupEnv}
}

// configFlags gives a command the flags of the configuration.
func (a *app) configFlags(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "config", "", "configuration file (YAML); flags go over the environment ("+config.EnvPrefix+"…), that over the file")
	defaults := config.Default()
	cmd.Flags().AddFlagSet(defaults.Flags())
}

// inForce is the configuration of the daemon, or the given one where none answers.
func (a *app) inForce(ctx context.Context, conf config.Config) config.Config {
	data, err := status.Detail(ctx, conf.StateDir, status.ConfigPath)
	if err != nil {
		return conf
	}
	running := config.Default()
	if err := json.Unmarshal(data, &running); err != nil {
		return conf // of a release that has other keys
	}
	return running
}

// given tells whether the command line names a configuration of its own.
func given(cmd *cobra.Command) bool {
	found := cmd.Flag("config").Changed
	conf := config.Default()
	conf.Flags().VisitAll(func(f *pflag.Flag) {
		// The state directory only says where the daemon is.
		found = found || f.Name != "state-dir" && cmd.Flag(f.Name).Changed
	})
	return found
}
