// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/pkg/record"
)

func (a *app) listCommand() *cobra.Command {
	var stateDir, output, namespace string
	var troubled bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the sandboxes, one line each",
		Long: "List the selected sandboxes, one line each; -o wide has a line for each gateway.\n" +
			"Where no daemon answers, its records are listed. With --problems it exits with 3 when something is listed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf(output, outputTable, outputWide, outputJSON, outputYAML); err != nil {
				return err
			}
			a.running = true
			records, err := a.sandboxes(cmd.Context(), stateDir)
			if err != nil {
				return err
			}
			records = slices.DeleteFunc(records, func(rec record.Record) bool {
				return namespace != "" && rec.Namespace != namespace || troubled && status.AsItShouldBe(rec)
			})
			if records == nil {
				records = []record.Record{}
			}
			now := time.Now()
			err = a.print(output, records, func(w io.Writer) {
				if output == outputWide {
					printWide(w, records, now)
				} else {
					printList(w, records, now)
				}
			})
			if err == nil && troubled && len(records) > 0 {
				return errNotPinned
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "only sandboxes of this Kubernetes namespace")
	cmd.Flags().BoolVar(&troubled, "problems", false, "only sandboxes that are not as they should be; exit with 3 when there are any")
	a.stateFlag(cmd, &stateDir)
	outputsFlag(cmd, &output, outputTable, outputWide, outputJSON, outputYAML)
	return cmd
}

func printList(w io.Writer, records []record.Record, now time.Time) {
	fmt.Fprintln(w, "NAMESPACE\tNAME\tHANDLER\tPINNED\tTIMING\tMARGIN\tREPINS\tSTATUS\tAGE")
	for _, rec := range records {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d/%d\t%s\t%s\t%d\t%s\t%s\n", orNone(quoteOdd(rec.Namespace)), orNone(quoteOdd(rec.Name)),
			orNone(quoteOdd(rec.Handler)), len(rec.Neighbors), len(rec.Neighbors)+len(rec.Skipped), rec.Timing.Verdict,
			margin(rec.Timing), rec.Repins, word(rec), age(rec.Began(), now))
	}
}

func printWide(w io.Writer, records []record.Record, now time.Time) {
	fmt.Fprintln(w, "NAMESPACE\tNAME\tHANDLER\tGATEWAY\tDEV\tLLADDR\tSOURCE\tTIMING\tMARGIN\tREPINS\tSTATUS\tAGE\tSANDBOX\tNETNS")
	for _, rec := range records {
		row := func(gateway, dev, lladdr, source, status string) {
			fmt.Fprintf(w, "%s\n", strings.Join([]string{orNone(quoteOdd(rec.Namespace)), orNone(quoteOdd(rec.Name)), orNone(quoteOdd(rec.Handler)),
				gateway, orNone(quoteOdd(dev)), orNone(lladdr), orNone(source), string(rec.Timing.Verdict), margin(rec.Timing),
				fmt.Sprint(rec.Repins), status, age(rec.Began(), now), quoteOdd(rec.ID), quoteOdd(rec.NetNS.Path)}, "\t"))
		}
		for _, n := range rec.Neighbors {
			row(n.Dst.String(), n.Dev, n.LLAddr.String(), string(n.Source), word(rec))
		}
		for _, s := range rec.Skipped {
			row(s.Dst.String(), s.Dev, "", "", string(s.Reason))
		}
		if len(rec.Neighbors)+len(rec.Skipped) == 0 {
			row("-", "", "", "", word(rec))
		}
	}
}
