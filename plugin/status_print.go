// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/pkg/record"
)

// printStatus prints the daemon's connections, then a table with a line for each
// gateway of each sandbox, and for whatever else there is to say of it.
func printStatus(w io.Writer, told status.Status) {
	fmt.Fprintf(w, "neighpin %s since %s\n", told.Version, told.StartedAt.Format(secondForm))
	printConfig(w, told.Config)
	printConnections(w, told)
	fmt.Fprintln(w)
	fmt.Fprintln(w, "POD\tHANDLER\tGATEWAY\tLLADDR\tDEV\tSOURCE\tTIMING\tMARGIN\tREPINS")
	for _, rec := range told.Sandboxes {
		printGateways(w, rec)
		printRemarks(w, rec)
	}
}

// printConnections prints a line for each thing that the daemon listens to.
func printConnections(w io.Writer, told status.Status) {
	nri := "not connected"
	if told.NRI.Connected {
		nri = fmt.Sprintf("connected to %s %s, request timeout %d ms", told.NRI.Runtime, told.NRI.RuntimeVersion, told.NRI.RequestTimeoutMs)
	}
	store := "not connected"
	if told.Store.Connected {
		store = "connected"
	}
	fmt.Fprintf(w, "NRI: %s (%s)%s\n", nri, told.NRI.Socket, because(told.NRI.Error))
	fmt.Fprintf(w, "sandbox store: %s (%s)%s\n", store, told.Store.Socket, because(told.Store.Error))
	host := "not heard"
	if told.Host.Heard {
		host = "heard"
	}
	fmt.Fprintf(w, "changes of the host's links: %s%s\n", host, because(told.Host.Error))
	if told.Observe != nil {
		counted := "not counted"
		if told.Observe.Counting {
			counted = "counted"
		}
		fmt.Fprintf(w, "what pods ask for: %s%s\n", counted, because(told.Observe.Error))
	}
}

// printGateways prints a sandbox's lines of the table: its gateways, and what is
// wrong about one of them.
func printGateways(w io.Writer, rec record.Record) {
	tail := fmt.Sprintf("%s\t%s\t%d", rec.Timing.Verdict, margin(rec.Timing), rec.Repins)
	row := func(gateway, lladdr any, dev string, source string) {
		fmt.Fprintf(w, "%s\t%v\t%v\t%s\t%s\t%s\n", podAndHandler(rec), gateway, lladdr, dev, source, tail)
	}
	for _, n := range rec.Neighbors {
		row(n.Dst, n.LLAddr, quoteOdd(n.Dev), string(n.Source))
	}
	for _, s := range rec.Skipped {
		row(s.Dst, "-", quoteOdd(s.Dev), fmt.Sprintf("skipped: %s", s.Reason))
	}
	for _, s := range rec.Stale {
		row(s.Dst, s.Copied, quoteOdd(s.Dev), "stale copy, true is "+cmp.Or(string(s.LLAddr), string(s.Reason)))
	}
	for _, d := range rec.Doubts {
		row(d.Dst, "-", quoteOdd(d.Dev), fmt.Sprintf("in doubt: %s %v", d.Reason, d.Claims))
	}
	if len(rec.Neighbors)+len(rec.Skipped) == 0 {
		row("-", "-", "-", "-")
	}
}

// printRemarks prints what else there is to say of a sandbox, a line each.
func printRemarks(w io.Writer, rec record.Record) {
	line := func(format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", podAndHandler(rec), fmt.Sprintf(format, args...))
	}
	if rec.HostState != nil {
		for _, f := range rec.HostState.Finds {
			line("on the host, %s", findLine(f))
		}
	}
	for _, e := range rec.ReturnPath {
		line("way back to %s\t%s\t%s\t%s", e.Dst, e.LLAddr, quoteOdd(e.Dev), e.Source)
	}
	if o := rec.Observed; o != nil {
		line("asked for pinned gateways: %d, for others: %d", o.Gateways, o.Others)
	}
	if rec.Error != "" {
		line("error: %s", quoteOdd(rec.Error))
	}
}

// podAndHandler begins each line about a sandbox.
func podAndHandler(rec record.Record) string {
	return quoteOdd(rec.Namespace+"/"+rec.Name) + "\t" + quoteOdd(rec.Handler)
}

func printConfig(w io.Writer, conf config.Status) {
	file := cmp.Or(conf.File, "no file")
	switch {
	case !conf.OK:
		fmt.Fprintf(w, "configuration: %s was not taken over, the one of %s stays in force: %s\n", file, conf.LoadedAt.Format(secondForm), quoteOdd(conf.Error))
	case len(conf.NeedsRestart) > 0:
		fmt.Fprintf(w, "configuration: in force since %s (%s); after a restart also: %s\n", conf.LoadedAt.Format(secondForm), file, strings.Join(conf.NeedsRestart, ", "))
	default:
		fmt.Fprintf(w, "configuration: in force since %s (%s)\n", conf.LoadedAt.Format(secondForm), file)
	}
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + oneLine(reason)
}
