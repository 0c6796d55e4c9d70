// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/internal/status"
)

func (a *app) statusCommand() *cobra.Command {
	var stateDir, output string
	var readiness, liveness bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the daemon's connections, sandboxes and pins",
		Long: "Show the daemon's connections to NRI and containerd, its sandboxes, their pins and whether they were in time.\n" +
			"Exits with 3 when a sandbox is not pinned as it should be.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			a.running = true
			if liveness {
				if err := status.Live(cmd.Context(), stateDir); err != nil {
					return fmt.Errorf("not alive: %w", err)
				}
				if !readiness {
					return nil
				}
			}
			if readiness {
				return status.Ready(cmd.Context(), stateDir)
			}
			told, err := status.Ask(cmd.Context(), stateDir)
			if err != nil {
				return err
			}
			if err := a.print(output, told, func(w io.Writer) { printStatus(w, told) }); err != nil {
				return err
			}
			for _, rec := range told.Sandboxes {
				if !status.AsItShouldBe(rec) {
					return errNotPinned
				}
			}
			return nil
		},
	}
	a.stateFlag(cmd, &stateDir)
	outputFlag(cmd, &output)
	cmd.Flags().BoolVar(&readiness, "ready", false, "print nothing; exit with 0 when connected to NRI and synchronized")
	cmd.Flags().BoolVar(&liveness, "live", false, "print nothing; exit with 0 while the daemon answers and its engine is not stuck, connected or not")
	return cmd
}

// stateFlag gives a command the flag for the state directory, which the
// environment can set as it does for the daemon.
func (a *app) stateFlag(cmd *cobra.Command, stateDir *string) {
	value := config.DefaultStateDir
	if set, ok := a.lookupEnv(config.Env("state-dir")); ok {
		value = set
	}
	cmd.Flags().StringVar(stateDir, "state-dir", value, "directory of the daemon's records and status socket")
}
