// SPDX-License-Identifier: Apache-2.0

// Command bench runs the benchmarks in namespaces of their own, as root:
//
//	bench [-short] [-only NAME,...] [-out results.json] [-update-docs DOCUMENT] [-profiles FOLDER]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/bench/gain"
	"github.com/neighpin/neighpin/e2e/internal/bench/keep"
	"github.com/neighpin/neighpin/e2e/internal/bench/margin"
	"github.com/neighpin/neighpin/e2e/internal/bench/nritrip"
	"github.com/neighpin/neighpin/e2e/internal/bench/pairs"
	"github.com/neighpin/neighpin/e2e/internal/bench/podstart"
	"github.com/neighpin/neighpin/e2e/internal/bench/repair"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/e2e/internal/bench/scale"
	"github.com/neighpin/neighpin/e2e/internal/bench/store"
	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/internal/cmd/command"
)

// sections are all that there is, in the order in which they run. Those that start pods come before those that make namespaces by the
// thousand: the kernel takes minutes to clean up after these, and each pod waits for that.
func sections() []bench.Section {
	return []bench.Section{
		podstart.Floor(),
		podstart.Alternatives(rig.Plugin()),
		nritrip.NRI(),
		store.Store(),
		gain.FirstPacket(),
		gain.Storm(),
		margin.Margin(),
		pairs.Pairs(), // which leaves their time to those that follow
		repair.Repair(),
		keep.Keep(),
		scale.Scale(),
	}
}

func main() {
	children := rig.Children{
		podstart.Child: rig.Reporting(podstart.RunChild),
		nritrip.Child:  rig.Reporting(nritrip.RunChild),
		pairs.Child:    func([]string) int { return pairs.RunChild() },
	}
	o, err := parse(os.Args[1:]) // a child's arguments are no flags
	if err != nil {
		os.Exit(2)
	}
	os.Exit(rig.Main(children, func() int { return command.Run("bench", o.run) }))
}

// options are the command's own.
type options struct {
	env       bench.Env
	only      []string
	out, docs string
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.env.Short, "short", false, "a few rounds of everything: a look, and no measurement")
	only := flags.String("only", "", "the sections to run, by their names with commas between")
	flags.StringVar(&o.out, "out", "", "the file for the results, as JSON")
	flags.StringVar(&o.docs, "update-docs", "", "the document whose blocks and plots are to be made anew")
	flags.StringVar(&o.env.Profiles, "profiles", "", "a folder for profiles, where a section can make one")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	o.env.Progress = io.Writer(os.Stdout)
	return o, nil
}

func (o options) run(ctx context.Context) error {
	e2e, err := parts.Root()
	if err != nil {
		return err
	}
	report := bench.Report{Schema: bench.Schema, Started: time.Now().UTC().Truncate(time.Second), Short: o.env.Short}
	if report.Machine, err = bench.DescribeMachine(ctx, filepath.Dir(e2e)); err != nil {
		return err
	}
	fmt.Fprintln(o.env.Progress, report.Machine)
	failed := report.Run(ctx, sections(), o.only, o.env)
	fmt.Fprintf(o.env.Progress, "--- all of it took %.0f s\n", report.Seconds)
	errs := []error{failed}
	if o.out != "" && failed == nil { // half a run is not written
		errs = append(errs, report.Write(o.out))
	}
	if o.docs != "" { // where each section has a place of its own
		errs = append(errs, report.UpdateDocument(o.docs))
	}
	return errors.Join(errs...)
}
