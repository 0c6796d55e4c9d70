// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/record"
)

// hostStateCommand is what the daemon does with hostState, by hand.
func (a *app) hostStateCommand() *cobra.Command {
	var stateDir, output string
	var ips []string
	var clean bool
	cmd := &cobra.Command{
		Use:   "host-state",
		Short: "Show what others left on the host for addresses of pods; exit with 3 on any find",
		Long: "Show neighbors of the host, and rules of nftables' bridge family, that lead an address of a pod to a\n" +
			"link-layer address which is not the pod's and which nobody has. Changes nothing without --clean.\n" +
			"Needs no daemon; run it in the host's own network namespace.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			wanted, err := parseIPs(ips)
			if err != nil {
				return err
			}
			a.running = true
			ctx, cancel := context.WithTimeout(cmd.Context(), netnsTimeout)
			defer cancel()
			look := hoststate.Look
			if clean {
				look = hoststate.Clean
			}
			report, err := look(ctx, a.addresses(stateDir, wanted))
			if report.Finds == nil {
				return err
			}
			if printErr := a.print(output, report, func(w io.Writer) { printFinds(w, report) }); printErr != nil || err != nil {
				return errors.Join(err, printErr)
			}
			if len(report.Finds) > 0 {
				return errNotPinned
			}
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&ips, "ip", nil, "addresses to look for, of any pod; without it, those of all sandboxes that neighpin has a record of")
	cmd.Flags().BoolVar(&clean, "clean", false, "remove what is found, and print the commands that put it back")
	a.stateFlag(cmd, &stateDir)
	outputFlag(cmd, &output)
	return cmd
}

func parseIPs(texts []string) (list []netip.Addr, err error) {
	for _, text := range texts {
		ip, err := netip.ParseAddr(text)
		if err != nil || ip.Zone() != "" {
			return nil, fmt.Errorf("address %q: want an IP address", text)
		}
		list = append(list, ip.Unmap())
	}
	return list, nil
}

// addresses are those of the records, or, of those given, also such that no record
// has.
func (a *app) addresses(stateDir string, wanted []netip.Addr) []hoststate.Address {
	list, err := record.In(stateDir).Addresses()
	if err != nil {
		// Of some sandboxes, perhaps: no reason not to look for the others.
		a.warn("%v", err)
	}
	known := make(map[netip.Addr][]hoststate.Address)
	for _, address := range list {
		known[address.Addr] = append(known[address.Addr], address)
	}
	if len(wanted) == 0 {
		return list
	}
	list = nil
	for _, ip := range wanted {
		if len(known[ip]) == 0 {
			known[ip] = []hoststate.Address{{Addr: ip}}
		}
		list = append(list, known[ip]...)
	}
	return list
}

func printFinds(w io.Writer, report hoststate.Report) {
	for _, unread := range report.Unread {
		fmt.Fprintf(w, "not looked at: %s\n", oneLine(unread))
	}
	if len(report.Finds) == 0 {
		fmt.Fprintln(w, "nothing found")
	}
	for _, f := range report.Finds {
		fmt.Fprintln(w, findLine(f))
	}
}

// findLine is one find with what became of it.
func findLine(f hoststate.Find) string {
	switch {
	case f.Removed:
		return fmt.Sprintf("removed: %s; put it back with: %s", quoteOdd(f.String()), oneLine(f.Restore))
	case f.Keeps != "":
		return fmt.Sprintf("found: %s; left alone by clean: %s", quoteOdd(f.String()), oneLine(f.Keeps))
	}
	return "found: " + quoteOdd(f.String())
}
