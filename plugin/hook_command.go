// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/neighpin/neighpin/hooks/oci"
	"github.com/neighpin/neighpin/internal/config"
)

func (a *app) hookCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hook",
		Short: "Pin as an OCI hook of stage createRuntime; the container's state is read from standard input",
		Long: "Pin in the network namespace of the container whose state an OCI runtime gives on standard input, at the stage\n" +
			"createRuntime; at poststop, forget it. The configuration is " + config.RuntimeFile + ", or the file that\n" +
			config.RuntimeEnv + " names.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf, err := config.LoadRuntime(a.lookupEnv)
			if err != nil {
				return err
			}
			a.running = true
			return exitCode(oci.Hook(oci.Process{Stdin: cmd.InOrStdin(), Stderr: a.stderr}, runtimeOptions(conf, ownName)))
		},
	}
}
