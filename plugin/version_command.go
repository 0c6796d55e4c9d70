// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker (-X main.version); programVersion is what everything says.
var version string

// programVersion is the version that the linker was told, as for every release, else the one that the Go command knows.
func programVersion() string {
	info, _ := debug.ReadBuildInfo() // nil without modules
	return versionOf(version, info)
}

// versionOf takes the Go command's word where the linker was told nothing: the module's version for `go install …@v0.1.0`, and for a build
// in a checkout one that ends in the commit (cmd/go, since 1.24), unless it was not to look there (-buildvcs=false).
func versionOf(linked string, info *debug.BuildInfo) string {
	const unknown = "(devel)" // to the Go command
	switch {
	case linked != "":
		return linked
	case info != nil && info.Main.Version != "" && info.Main.Version != unknown:
		return info.Main.Version
	}
	return "devel"
}

// BuildInfo is what "neighpin version" prints.
type BuildInfo struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func buildInfo() BuildInfo {
	return BuildInfo{Version: programVersion(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
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
