// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/preflight"
	"github.com/neighpin/neighpin/pkg/record"
)

// checkTimeout bounds a check: containerd may be there and not answer.
const checkTimeout = 10 * time.Second

func (a *app) checkCommand() *cobra.Command {
	var path, output string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check whether pods can be pinned on this node",
		Long: "Check what pins need of this node: the kernel, capabilities, mounts, containerd, NRI, handlers. Changes nothing and\n" +
			"needs no daemon. It goes by the configuration of the daemon, where one answers and no flag says another; else by the\n" +
			"configuration that 'neighpin plugin' would have with the same flags.\n" +
			"Exits with 3 when something is failed; what cannot be seen from here is unknown, which is no failure.",
		Args: cobra.NoArgs,
	}
	a.configFlags(cmd, &path)
	outputsFlag(cmd, &output, outputTable, outputJSON, outputYAML)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := oneOf(output, outputTable, outputJSON, outputYAML); err != nil {
			return err
		}
		conf, err := a.loader(cmd, path).Load("")
		if err != nil {
			return err
		}
		a.running = true
		if !given(cmd) {
			conf = a.inForce(cmd.Context(), conf)
		}
		report, err := a.check(cmd.Context(), conf)
		if err != nil {
			return err
		}
		if err := a.print(output, report, func(w io.Writer) { printCheck(w, report) }); err != nil {
			return err
		}
		if report.Failed() {
			return errNotPinned
		}
		return nil
	}
	return cmd
}

// check runs the preflight with a configuration.
func (a *app) check(ctx context.Context, conf config.Config) (preflight.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	options := preflight.Options{
		NetNSDirs: conf.NetNSDirs, StateDir: conf.StateDir, NRISocket: conf.NRISocket, ContainerdSocket: conf.ContainerdSocket,
		Enforce: conf.Enforce, Learn: conf.Learned == config.LearnedProbe, Observe: conf.Observe, Annotation: annotation.Key,
		Selects: func(handler, runtimeType string) bool {
			return conf.Selection().Select(record.Identity{Handler: handler, Runtime: runtimeType, NetNSPath: "any"}).Pin
		},
	}
	if conf.ContainerdSocket != "" {
		store, err := containerd.NewStore(conf.ContainerdSocket, conf.ContainerdNamespace)
		if err != nil {
			return preflight.Report{}, err
		}
		defer func() { _ = store.Close() }()
		options.Runtime = store
	}
	if told, err := status.Ask(ctx, conf.StateDir); err == nil {
		options.Daemon = &preflight.Daemon{Connected: told.NRI.Connected, Error: told.NRI.Error,
			RequestTimeout: time.Duration(told.NRI.RequestTimeoutMs) * time.Millisecond}
	}
	return preflight.Run(ctx, options), nil
}

func printCheck(w io.Writer, report preflight.Report) {
	fmt.Fprintln(w, "STATUS\tWHAT\tFOUND")
	for _, item := range report.Items {
		fmt.Fprintf(w, "%s\t%s\t%s\n", item.Status, quoteOdd(item.Name), quoteOdd(cmp.Or(item.Found, "-")))
		if item.Do != "" {
			fmt.Fprintf(w, "\t\t-> %s\n", oneLine(item.Do))
		}
	}
}
