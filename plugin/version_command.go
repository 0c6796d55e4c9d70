// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"
)

// BuildInfo is what "neighpin version" prints.
type BuildInfo struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func buildInfo() BuildInfo {
	return BuildInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
}

func (a *app) versionCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			a.running = true
			info := buildInfo()
			return a.print(output, info, func(w io.Writer) {
				fmt.Fprintf(w, "neighpin %s (%s, %s)\n", info.Version, info.Go, info.Platform)
			})
		},
	}
	outputFlag(cmd, &output)
	return cmd
}
