// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
)

// netnsTimeout bounds the work of one command in a namespace.
const netnsTimeout = 10 * time.Second

// maxByHand is the limit of pins of a namespace without a daemon's configuration.
const maxByHand = 64

// Results of "neighpin verify".
const (
	resultOK         = "ok"
	resultDifferent  = "different"
	resultHandedOver = "handedOver"
)

// reasonUntrue says that a recorded pin is not what the host's links say now.
const reasonUntrue neighbor.Reason = "NotTrueAnyMore"

// Report is what the namespace commands print as JSON.
type Report struct {
	NetNS     ReportNetNS         `json:"netns"`
	Neighbors []neighbor.Neighbor `json:"neighbors"`
	Skipped   []neighbor.Skipped  `json:"skipped"`
	// Result and Differences are verify's; HandedOver says that a runtime has
	// taken the namespace's addresses and routes.
	Result      string                `json:"result,omitempty"`
	Differences []neighbor.Difference `json:"differences,omitempty"`
	HandedOver  bool                  `json:"handedOver,omitempty"`
}

// ReportNetNS names the namespace.
type ReportNetNS struct {
	Path   string `json:"path"`
	Cookie uint64 `json:"cookie"`
	// Host tells that it is the host's own, which every command refuses; it is
	// false wherever there is something to print.
	Host bool `json:"host"`
}

func (a *app) namespaceCommands() []*cobra.Command {
	return []*cobra.Command{
		a.namespaceCommand("inspect", "Show which gateways of a namespace would be pinned, and change nothing", inspect),
		a.namespaceCommand("pin", "Pin the gateways of a namespace", pin),
		a.unpinCommand(),
		a.namespaceCommand("verify", "Compare the pins of a namespace with what should be; exit with 3 on any difference", verify),
	}
}

// inside is one command's namespace: opened, identified, not the host's.
type inside struct {
	ns      *netns.NS
	table   *neighbor.Table
	records *record.Dir
	known   []record.Record // of the sandboxes that have the namespace
}

// owned are the entries that neighpin made in the namespace, by record.
func (in *inside) owned() []neighbor.Neighbor {
	var owned []neighbor.Neighbor
	for _, rec := range in.known {
		owned = append(owned, rec.Owned()...)
	}
	return owned
}

func (a *app) namespaceCommand(name, short string, work func(context.Context, *inside) (Report, error)) *cobra.Command {
	var path, stateDir, output string
	cmd := &cobra.Command{
		Use:   name + " --netns PATH",
		Short: short,
		Long:  short + ".\nNeeds no daemon. The host's own namespace is refused, however it is reached.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return errors.New("no namespace given: --netns PATH says which")
			}
			if err := checkOutput(output); err != nil {
				return err
			}
			a.running = true
			ctx, cancel := context.WithTimeout(cmd.Context(), netnsTimeout)
			defer cancel()
			report, err := a.within(ctx, path, stateDir, work)
			if err != nil && !errors.Is(err, errNotPinned) {
				return fmt.Errorf("%s: %w", name, err)
			}
			return errors.Join(err, a.print(output, report, func(w io.Writer) { printReport(w, report) }))
		},
	}
	cmd.Flags().StringVar(&path, "netns", "", "path of the network namespace, such as /var/run/netns/NAME or /proc/PID/ns/net")
	a.stateFlag(cmd, &stateDir)
	outputFlag(cmd, &output)
	return cmd
}

func (a *app) within(ctx context.Context, path, stateDir string, work func(context.Context, *inside) (Report, error)) (Report, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Report{}, fmt.Errorf("make %q absolute: %w", path, err)
	}
	host, err := netns.NewHost()
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = host.Close() }()
	ns, err := host.Open(path)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = ns.Close() }()
	table, err := neighbor.Open(ns)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = table.Close() }()
	records := record.In(stateDir)
	known, err := records.ByCookie(ns.Cookie())
	if err != nil {
		// Of other namespaces, perhaps: no reason not to look at this one.
		a.warn("%v", err)
	}
	report, err := work(ctx, &inside{ns: ns, table: table, records: records, known: known})
	report.NetNS = ReportNetNS{Path: path, Cookie: ns.Cookie()}
	if report.Neighbors == nil {
		report.Neighbors = []neighbor.Neighbor{}
	}
	if report.Skipped == nil {
		report.Skipped = []neighbor.Skipped{}
	}
	return report, err
}

func inspect(ctx context.Context, in *inside) (Report, error) {
	found, err := in.table.Resolve(ctx, neighbor.Query{Known: in.owned(), Limit: maxByHand})
	return Report{Neighbors: found.Neighbors, Skipped: found.Skipped, HandedOver: found.HandedOver}, err
}

func pin(ctx context.Context, in *inside) (Report, error) {
	found, err := in.table.Resolve(ctx, neighbor.Query{Known: in.owned(), Limit: maxByHand})
	if err != nil {
		return Report{}, err
	}
	report := Report{Skipped: found.Skipped, HandedOver: found.HandedOver}
	if found.HandedOver {
		return report, errors.New("a runtime has taken the namespace's addresses and routes; there is nothing left to pin")
	}
	written, err := in.table.Write(ctx, found)
	report.Neighbors, report.Skipped = written.Neighbors, written.Skipped
	if len(report.Neighbors) == 0 {
		return report, err
	}
	now := time.Now().UTC()
	rec := record.Record{
		ID:    record.ByHandID(in.ns.Cookie()),
		NetNS: record.NetNS{Path: in.ns.Path(), Cookie: in.ns.Cookie()},
		Phase: record.Started, Neighbors: report.Neighbors, Skipped: report.Skipped,
		CapturedAt: now, Timing: record.Timing{Verdict: record.Unproven, PinnedAt: now},
	}
	return report, errors.Join(err, in.records.Save(rec))
}

func unpin(ctx context.Context, in *inside) (Report, error) {
	released, err := in.table.Release(ctx, in.owned())
	report := Report{Neighbors: released}
	if err != nil {
		return report, err
	}
	for _, rec := range in.known {
		if rec.ID == record.ByHandID(in.ns.Cookie()) {
			err = errors.Join(err, in.records.Delete(rec.ID))
			continue
		}
		rec.Neighbors = rec.Foreign()
		err = errors.Join(err, in.records.Save(rec))
	}
	return report, err
}

func verify(ctx context.Context, in *inside) (Report, error) {
	found, err := in.table.Resolve(ctx, neighbor.Query{Known: in.owned(), Limit: maxByHand})
	if err != nil {
		return Report{}, err
	}
	report := Report{Neighbors: found.Neighbors, Skipped: found.Skipped, HandedOver: found.HandedOver, Result: resultOK}
	if found.HandedOver {
		// The pins of IPv4 went with its last address; what counts is whether
		// they were there when the runtime read them, which the record tells.
		report.Result = resultHandedOver
		for _, rec := range in.known {
			if rec.Timing.Verdict == record.InTime {
				return report, nil
			}
		}
		return report, errNotPinned
	}
	report.Differences, err = in.table.Verify(ctx, found.Neighbors)
	if err != nil {
		return report, err
	}
	// What the record claims and the truth no longer bears is a difference, too.
	for _, n := range in.owned() {
		if !slices.ContainsFunc(found.Neighbors, n.Same) {
			report.Skipped = append(report.Skipped, neighbor.Skipped{
				Dst: n.Dst, Dev: n.Dev, Reason: reasonUntrue, Message: "recorded as pinned to " + n.LLAddr.String() + ", which is not true any more",
			})
		}
	}
	if len(report.Differences) > 0 || slices.ContainsFunc(report.Skipped, func(s neighbor.Skipped) bool { return s.Reason.NoTruth() }) {
		report.Result = resultDifferent
		return report, errNotPinned
	}
	return report, nil
}

func printReport(w io.Writer, report Report) {
	fmt.Fprintf(w, "namespace %s, cookie %d\n", report.NetNS.Path, report.NetNS.Cookie)
	switch {
	case report.Result != "":
		fmt.Fprintf(w, "result: %s\n", report.Result)
	case report.HandedOver:
		fmt.Fprintln(w, "a runtime has taken the namespace's addresses and routes")
	}
	if len(report.Neighbors)+len(report.Skipped) > 0 {
		fmt.Fprintln(w, "\nGATEWAY\tDEV\tLLADDR\tSTATE\tSOURCE")
	}
	for _, n := range report.Neighbors {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", n.Dst, quoteOdd(n.Dev), n.LLAddr, strings.Join(n.State, ","), n.Source)
	}
	for _, s := range report.Skipped {
		fmt.Fprintf(w, "%s\t%s\t-\t-\tskipped: %s\t%s\n", s.Dst, quoteOdd(s.Dev), s.Reason, quoteOdd(s.Message))
	}
	for _, d := range report.Differences {
		fmt.Fprintf(w, "difference: %s dev %s: want %s %s, got %s %s\n", d.Dst, quoteOdd(d.Dev),
			d.Want.LLAddr, strings.Join(d.Want.State, ","), d.Got.LLAddr, strings.Join(d.Got.State, ","))
	}
}
