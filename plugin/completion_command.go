// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// completed gives the root cobra's own command for completion, which of a shell that it
// does not know would only print its help, and end well.
func (a *app) completed(root *cobra.Command) *cobra.Command {
	root.SetOut(a.stdout) // before, since that is kept for the scripts
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		var shells []string
		for _, shell := range cmd.Commands() {
			shells = append(shells, shell.Name())
		}
		cmd.Use = "completion SHELL"
		cmd.RunE = func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("no shell given: want " + orList(shells))
			}
			return fmt.Errorf("shell %q: want %s", args[0], orList(shells))
		}
		cmd.Args = cobra.ArbitraryArgs // which RunE names
	}
	return root
}
