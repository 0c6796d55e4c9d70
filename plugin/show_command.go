// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/view"
)

// maxShown bounds what is read of a namespace, of each kind.
const maxShown = 256

// Story is what "neighpin show" prints as JSON: all that is known of one sandbox.
type Story struct {
	// Problems are what keeps it from being as it should be, in a word each.
	Problems []string `json:"problems"`
	// Record is what neighpin has noted; its history is in it.
	Record record.Record `json:"record"`
	// Copied is what the runtime has in a stack of its own, by the record.
	Copied []neighbor.Neighbor `json:"copied,omitempty"`
	// Now is what the namespace holds at this moment, and what would be pinned.
	Now *Present `json:"now,omitempty"`
	// Ends are the links' other ends on the host.
	Ends []view.Link `json:"ends,omitempty"`
	// Unread is what could not be looked at, with the reason.
	Unread []string `json:"unread,omitempty"`
}

// Present is the namespace as it is.
type Present struct {
	view.Contents
	// HandedOver tells that a runtime has taken addresses and routes.
	HandedOver bool `json:"handedOver,omitempty"`
	// Resolved and Skipped are what neighpin would pin now, and what not.
	Resolved []neighbor.Neighbor `json:"resolved"`
	Skipped  []neighbor.Skipped  `json:"skipped"`
}

func (a *app) showCommand() *cobra.Command {
	var stateDir, output string
	cmd := &cobra.Command{
		Use:   "show POD",
		Short: "Tell the whole story of one sandbox",
		Long: "Tell the whole story of one sandbox: its history, gateways and the reasons, what its runtime copied, and what\n" +
			"its namespace holds now. POD is namespace/name, a name, or the beginning of a sandbox's id. Changes nothing.\n" +
			"Exits with 3 when the sandbox is not as it should be.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%d sandboxes given: want one, as 'neighpin list' names it", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf(output, outputTable, outputJSON, outputYAML); err != nil {
				return err
			}
			a.running = true
			records, err := a.sandboxes(cmd.Context(), stateDir)
			if err != nil {
				return err
			}
			rec, err := choose(records, args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), netnsTimeout)
			defer cancel()
			story := tell(ctx, rec)
			if err := a.print(output, story, func(w io.Writer) { printStory(w, story) }); err != nil {
				return err
			}
			if !status.AsItShouldBe(rec) {
				return errNotPinned
			}
			return nil
		},
	}
	a.stateFlag(cmd, &stateDir)
	outputsFlag(cmd, &output, outputTable, outputJSON, outputYAML)
	return cmd
}

// choose finds the one sandbox that is meant: by the pod's namespace and name, by its
// name alone, by the sandbox's id or the beginning of it.
func choose(records []record.Record, what string) (record.Record, error) {
	for _, matches := range []func(record.Record) bool{
		func(rec record.Record) bool { return rec.ID == what },
		func(rec record.Record) bool { return rec.Namespace+"/"+rec.Name == what },
		func(rec record.Record) bool { return rec.Name == what },
		func(rec record.Record) bool { return what != "" && strings.HasPrefix(rec.ID, what) },
	} {
		var found []record.Record
		for _, rec := range records {
			if matches(rec) {
				found = append(found, rec)
			}
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			return found[0], nil
		}
		var names []string
		for _, rec := range found {
			names = append(names, fmt.Sprintf("%s %s", podName(rec), quoteOdd(rec.ID)))
		}
		return record.Record{}, fmt.Errorf("find sandbox %q: %d match, name one by its id: %s", what, len(found), strings.Join(names, ", "))
	}
	return record.Record{}, fmt.Errorf("find sandbox %q: none of %d on this node is meant; neighpin list shows them, and a pod that is not selected is not listed", what, len(records))
}

// tell collects the story. What cannot be read is named in it.
func tell(ctx context.Context, rec record.Record) Story {
	story := Story{Record: rec, Problems: status.Problems(rec)}
	if story.Problems == nil {
		story.Problems = []string{}
	}
	if rec.Taken {
		story.Copied = rec.Copied()
	}
	unread := func(err error) {
		if err != nil {
			story.Unread = append(story.Unread, err.Error())
		}
	}
	host, err := netns.NewHost()
	if err != nil {
		unread(err)
		return story
	}
	defer func() { _ = host.Close() }()
	now, err := present(ctx, host, rec)
	unread(err)
	story.Now = now
	ends, err := endsOf(ctx, rec)
	unread(err)
	story.Ends = ends
	return story
}

// present reads the sandbox's namespace, if it still is the one that was recorded.
func present(ctx context.Context, host *netns.Host, rec record.Record) (*Present, error) {
	table, err := neighbor.OpenAt(host, rec.NetNS.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("namespace %s is gone", rec.NetNS.Path)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = table.Close() }()
	if table.Cookie() != rec.NetNS.Cookie {
		return nil, fmt.Errorf("namespace %s is another one now: cookie %d, recorded %d", rec.NetNS.Path, table.Cookie(), rec.NetNS.Cookie)
	}
	now := &Present{Resolved: []neighbor.Neighbor{}, Skipped: []neighbor.Skipped{}}
	var cookie uint64
	if now.Contents, cookie, err = view.Namespace(ctx, host, rec.NetNS.Path, maxShown); err != nil {
		return nil, err
	}
	if cookie != table.Cookie() {
		return nil, fmt.Errorf("namespace %s became another one while it was read", rec.NetNS.Path)
	}
	found, err := table.Resolve(ctx, neighbor.Query{Known: rec.Neighbors, Limit: maxByHand, Running: rec.Phase == record.Started})
	if err != nil {
		return now, err
	}
	now.HandedOver = found.HandedOver
	now.Resolved, now.Skipped = append(now.Resolved, found.Neighbors...), append(now.Skipped, found.Skipped...)
	return now, nil
}

// endsOf reads the other ends of the sandbox's links, in the host's namespace.
func endsOf(ctx context.Context, rec record.Record) ([]view.Link, error) {
	if len(rec.Ends) == 0 {
		return nil, nil
	}
	links, err := view.Links(ctx, slices.Collect(maps.Values(rec.Ends)))
	slices.SortFunc(links, func(a, b view.Link) int { return a.Index - b.Index })
	return links, err
}
