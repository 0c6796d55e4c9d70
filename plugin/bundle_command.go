// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/pkg/record"
)

// bundleTimeout bounds the whole work.
const bundleTimeout = time.Minute

// bundleContents is the README of a bundle; docs/cli.md says the same.
const bundleContents = `What neighpin support-bundle collected on this node.

not-collected.txt  what could not be had, with the reason
version.json       the binary's version, Go's, the platform; kernel.txt the kernel's
check.json         neighpin check
config.yaml        the configuration in force, or, without a daemon, that of the command
status.json        what the daemon says of itself, without the sandboxes
list.txt           neighpin list -o wide
metrics.txt        the daemon's metrics
goroutines.txt     where the daemon's goroutines are
records/           neighpin's record of each sandbox, as its file has it
sandboxes/         neighpin show -o json of some: those with problems first. Links, addresses, routes and
                   neighbors of the pod's network namespace, and the host's ends of its links

It has names of pods and namespaces, IP and MAC addresses, routes and paths. It has no annotation of a pod, no
environment variable, no token or key, no log, and nothing that a pod sent. The log is kubectl logs'.
`

func (a *app) bundleCommand() *cobra.Command {
	var path, file string
	var stories int
	cmd := &cobra.Command{
		Use:   "support-bundle",
		Short: "Collect what helps to find a fault, as a tar.gz",
		Long: "Collect what helps to find a fault into a tar.gz, on standard output unless --file names a new file: check, status,\n" +
			"list, configuration, records, metrics, and what the namespaces of some sandboxes hold. It has no annotations of pods,\n" +
			"no environment and no tokens; its README says what it has. What cannot be collected is named in it. Changes nothing.",
		Args: cobra.NoArgs,
	}
	a.configFlags(cmd, &path)
	cmd.Flags().StringVarP(&file, "file", "f", "-", "file to make; - is standard output")
	cmd.Flags().IntVar(&stories, "sandboxes", 20, "of how many sandboxes the namespaces are read, those with problems first")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		conf, err := a.loader(cmd, path).Load("")
		if err != nil {
			return err
		}
		if stories < 0 {
			return fmt.Errorf("sandboxes %d: want 0 or more", stories)
		}
		a.running = true
		if !given(cmd) {
			conf = a.inForce(cmd.Context(), conf)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), bundleTimeout)
		defer cancel()
		return a.bundleTo(file, func(w io.Writer) error { return a.bundle(ctx, w, conf, stories) })
	}
	return cmd
}

// bundleTo opens what is to be written to. A file is made anew: root would follow
// somebody's link, or write over what is there.
func (a *app) bundleTo(file string, work func(io.Writer) error) error {
	if file == "-" {
		if out, ok := a.stdout.(*os.File); ok {
			if info, err := out.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
				return errors.New("write support bundle: standard output is a terminal; redirect it, or name a file with --file")
			}
		}
		return work(a.stdout)
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("make support bundle: %w", err)
	}
	return errors.Join(work(out), out.Close())
}

// bundle writes the archive.
func (a *app) bundle(ctx context.Context, w io.Writer, conf config.Config, stories int) error {
	now := time.Now().UTC()
	out := newArchive(w, "neighpin-"+now.Format("20060102-150405"), now)
	object := func(name string, value any, err error) {
		if err != nil {
			out.add(name, nil, err)
			return
		}
		data, err := encode(outputJSON, value)
		out.add(name, data, err)
	}
	out.add("README.txt", []byte(bundleContents), nil)
	object("version.json", buildInfo(), nil)
	kernel, err := os.ReadFile("/proc/version")
	out.add("kernel.txt", kernel, err)
	effective, err := yaml.Marshal(conf)
	out.add("config.yaml", effective, err)
	report, err := a.check(ctx, conf)
	object("check.json", report, err)

	told, err := status.Ask(ctx, conf.StateDir)
	records := told.Sandboxes
	told.Sandboxes = nil
	object("status.json", told, err)
	for name, what := range map[string]string{"metrics.txt": status.MetricsPath, "goroutines.txt": status.GoroutinesPath} {
		data, err := status.Detail(ctx, conf.StateDir, what)
		out.add(name, data, err)
	}
	kept, err := record.In(conf.StateDir).List()
	out.add("records", nil, err)
	for _, rec := range kept {
		object("records/"+rec.ID+".json", rec, nil)
	}
	if len(records) == 0 {
		records = kept
	}
	var list bytes.Buffer
	table := tabwriter.NewWriter(&list, 0, 8, 2, ' ', 0)
	printWide(table, records, now)
	err = table.Flush()
	out.add("list.txt", list.Bytes(), err)
	for _, rec := range worstFirst(records, stories) {
		if ctx.Err() != nil {
			out.add("sandboxes", nil, fmt.Errorf("stop reading namespaces: %w", ctx.Err()))
			break
		}
		reading, cancel := context.WithTimeout(ctx, netnsTimeout)
		object("sandboxes/"+rec.ID+".json", tell(reading, rec), nil)
		cancel()
	}
	for _, failed := range out.failed {
		fmt.Fprintf(a.stderr, "neighpin: not collected: %s\n", quoteOdd(failed))
	}
	if err := out.close(); err != nil {
		return fmt.Errorf("write support bundle: %w", err)
	}
	return nil
}

// worstFirst are some of the sandboxes: those with problems, then the youngest.
func worstFirst(records []record.Record, limit int) []record.Record {
	sorted := slices.Clone(records)
	slices.SortStableFunc(sorted, func(a, b record.Record) int {
		if good, other := status.AsItShouldBe(a), status.AsItShouldBe(b); good != other {
			if good {
				return 1
			}
			return -1
		}
		return b.Began().Compare(a.Began())
	})
	return sorted[:min(limit, len(sorted))]
}
