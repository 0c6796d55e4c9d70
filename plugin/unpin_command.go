// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

// errDaemonRuns says that pins would be back at once.
var errDaemonRuns = errors.New("the daemon answers on its socket and would pin again; stop it first")

// Undone is what "neighpin unpin --all" prints of one sandbox as JSON.
type Undone struct {
	ID        string              `json:"id"`
	Namespace string              `json:"namespace"`
	Name      string              `json:"name"`
	NetNS     record.NetNS        `json:"netns"`
	Released  []neighbor.Neighbor `json:"released"`
	// ReturnPath are entries on the host.
	ReturnPath []hoststate.Entry `json:"returnPath,omitempty"`
}

// unpinCommand is "unpin" for one namespace, or with --all for every record.
func (a *app) unpinCommand() *cobra.Command {
	cmd := a.namespaceCommand("unpin", "Remove the pins that neighpin made in a namespace", unpin)
	cmd.Use = "unpin (--netns PATH | --all)"
	cmd.Long += "\nWith --all, for uninstalling: every pin that the records know, live files and the records themselves."
	one := cmd.RunE
	var all bool
	cmd.Flags().BoolVar(&all, "all", false, "remove every pin by neighpin's records; the daemon has to be stopped")
	cmd.MarkFlagsMutuallyExclusive("all", "netns")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !all {
			if cmd.Flag("netns").Value.String() == "" {
				return errors.New("no namespace given: --netns PATH says which, or --all of every record")
			}
			return one(cmd, args)
		}
		output, stateDir := cmd.Flag("output").Value.String(), cmd.Flag("state-dir").Value.String()
		if err := checkOutput(output); err != nil {
			return err
		}
		a.running = true
		undone, err := undoAll(cmd.Context(), stateDir)
		if err != nil {
			err = fmt.Errorf("unpin all: %w", err)
		}
		if errors.Is(err, errDaemonRuns) {
			return err // nothing was looked at, and an empty list would say that there is nothing
		}
		return errors.Join(err, a.print(output, undone, func(w io.Writer) { printUndone(w, undone) }))
	}
	return cmd
}

func undoAll(ctx context.Context, stateDir string) ([]Undone, error) {
	undone := []Undone{}
	if _, err := status.Ask(ctx, stateDir); err == nil {
		return undone, errDaemonRuns
	}
	host, err := netns.NewHost()
	if err != nil {
		return undone, err
	}
	defer func() { _ = host.Close() }()
	all, err := sandbox.UndoAll(ctx, record.In(stateDir), host)
	for _, u := range all {
		rec := u.Record
		if u.Released == nil {
			u.Released = []neighbor.Neighbor{}
		}
		undone = append(undone, Undone{ID: rec.ID, Namespace: rec.Namespace, Name: rec.Name, NetNS: rec.NetNS, Released: u.Released, ReturnPath: u.ReturnPath})
	}
	return undone, err
}

func printUndone(w io.Writer, undone []Undone) {
	if len(undone) == 0 {
		fmt.Fprintln(w, "no records, hence no pins of neighpin's")
		return
	}
	fmt.Fprintln(w, "POD\tSANDBOX\tNETNS\tPINS REMOVED\tON THE HOST")
	for _, u := range undone {
		pod := quoteOdd(u.Namespace + "/" + u.Name)
		if u.Name == "" {
			pod = "by hand"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\n", pod, quoteOdd(u.ID), quoteOdd(u.NetNS.Path), len(u.Released), len(u.ReturnPath))
	}
}
