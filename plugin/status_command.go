// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/neighpin/neighpin/pkg/sandbox"
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
				if err := askLive(cmd.Context(), stateDir); err != nil {
					return fmt.Errorf("not alive: %w", err)
				}
				if !readiness {
					return nil
				}
			}
			if readiness {
				return askReady(cmd.Context(), stateDir)
			}
			status, err := askStatus(cmd.Context(), stateDir)
			if err != nil {
				return err
			}
			if err := a.print(output, status, func(w io.Writer) { printStatus(w, status) }); err != nil {
				return err
			}
			for _, rec := range status.Sandboxes {
				if !asItShouldBe(rec) {
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

// asItShouldBe tells that a sandbox is pinned, or on its way to be.
func asItShouldBe(rec sandbox.Record) bool {
	return len(problems(rec)) == 0
}

// stateFlag gives a command the flag for the state directory, which the
// environment can set as it does for the daemon.
func (a *app) stateFlag(cmd *cobra.Command, stateDir *string) {
	value := defaultStateDir
	if set, ok := a.lookupEnv(env("state-dir")); ok {
		value = set
	}
	cmd.Flags().StringVar(stateDir, "state-dir", value, "directory of the daemon's records and status socket")
}

func printStatus(w io.Writer, status Status) {
	nri := "not connected"
	if status.NRI.Connected {
		nri = fmt.Sprintf("connected to %s %s, request timeout %d ms", status.NRI.Runtime, status.NRI.RuntimeVersion, status.NRI.RequestTimeoutMs)
	}
	store := "not connected"
	if status.Containerd.Connected {
		store = "connected"
	}
	fmt.Fprintf(w, "neighpin %s since %s\n", status.Version, status.StartedAt.Format(secondForm))
	printConfig(w, status.Config)
	fmt.Fprintf(w, "NRI: %s (%s)%s\n", nri, status.NRI.Socket, because(status.NRI.Error))
	fmt.Fprintf(w, "containerd: %s (%s)%s\n", store, status.Containerd.Socket, because(status.Containerd.Error))
	host := "not heard"
	if status.Host.Heard {
		host = "heard"
	}
	fmt.Fprintf(w, "changes of the host's links: %s%s\n", host, because(status.Host.Error))
	if status.Observe != nil {
		counted := "not counted"
		if status.Observe.Counting {
			counted = "counted"
		}
		fmt.Fprintf(w, "what pods ask for: %s%s\n", counted, because(status.Observe.Error))
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "POD\tHANDLER\tGATEWAY\tLLADDR\tDEV\tSOURCE\tTIMING\tMARGIN\tREPINS")
	for _, rec := range status.Sandboxes {
		pod := quoteOdd(rec.Namespace + "/" + rec.Name)
		tail := fmt.Sprintf("%s\t%s\t%d", rec.Timing.Verdict, margin(rec.Timing), rec.Repins)
		for _, n := range rec.Neighbors {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", pod, quoteOdd(rec.Handler), n.Dst, n.LLAddr, quoteOdd(n.Dev), n.Source, tail)
		}
		for _, s := range rec.Skipped {
			fmt.Fprintf(w, "%s\t%s\t%s\t-\t%s\tskipped: %s\t%s\n", pod, quoteOdd(rec.Handler), s.Dst, quoteOdd(s.Dev), s.Reason, tail)
		}
		for _, s := range rec.Stale {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\tstale copy, true is %s\t%s\n", pod, quoteOdd(rec.Handler), s.Dst, s.Copied, quoteOdd(s.Dev), cmp.Or(string(s.LLAddr), string(s.Reason)), tail)
		}
		for _, d := range rec.Doubts {
			fmt.Fprintf(w, "%s\t%s\t%s\t-\t%s\tin doubt: %s %v\t%s\n", pod, quoteOdd(rec.Handler), d.Dst, quoteOdd(d.Dev), d.Reason, d.Claims, tail)
		}
		if len(rec.Neighbors)+len(rec.Skipped) == 0 {
			fmt.Fprintf(w, "%s\t%s\t-\t-\t-\t-\t%s\n", pod, quoteOdd(rec.Handler), tail)
		}
		if rec.HostState != nil {
			for _, f := range rec.HostState.Finds {
				fmt.Fprintf(w, "%s\t%s\ton the host, %s\n", pod, quoteOdd(rec.Handler), findLine(f))
			}
		}
		for _, e := range rec.ReturnPath {
			fmt.Fprintf(w, "%s\t%s\tway back to %s\t%s\t%s\t%s\n", pod, quoteOdd(rec.Handler), e.Dst, e.LLAddr, quoteOdd(e.Dev), e.Source)
		}
		if o := rec.Observed; o != nil {
			fmt.Fprintf(w, "%s\t%s\tasked for pinned gateways: %d, for others: %d\n", pod, quoteOdd(rec.Handler), o.Gateways, o.Others)
		}
		if rec.Error != "" {
			fmt.Fprintf(w, "%s\t%s\terror: %s\n", pod, quoteOdd(rec.Handler), quoteOdd(rec.Error))
		}
	}
}

func printConfig(w io.Writer, config ConfigStatus) {
	file := cmp.Or(config.File, "no file")
	switch {
	case !config.OK:
		fmt.Fprintf(w, "configuration: %s was not taken over, the one of %s stays in force: %s\n", file, config.LoadedAt.Format(secondForm), quoteOdd(config.Error))
	case len(config.NeedsRestart) > 0:
		fmt.Fprintf(w, "configuration: in force since %s (%s); after a restart also: %s\n", config.LoadedAt.Format(secondForm), file, strings.Join(config.NeedsRestart, ", "))
	default:
		fmt.Fprintf(w, "configuration: in force since %s (%s)\n", config.LoadedAt.Format(secondForm), file)
	}
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

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
		config, err := loader{path: path, given: cmd.Flags(), lookupEnv: a.lookupEnv}.load("")
		if err != nil {
			return err
		}
		a.running = true
		data, err := yaml.Marshal(config)
		if err != nil {
			return fmt.Errorf("encode configuration: %w", err)
		}
		_, err = a.stdout.Write(data)
		return err
	}
	return cmd
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

var errNoNamespace = errors.New("no namespace given: --netns PATH says which")
