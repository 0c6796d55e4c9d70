// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"io/fs"

	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
)

// Undone is one record that was taken back.
type Undone struct {
	// Record is what it was.
	Record record.Record
	// Released are the pins that were still ours and are gone now.
	Released []neighbor.Neighbor
	// ReturnPath are the entries on the host that were still ours and are gone now.
	ReturnPath []hoststate.Entry
}

// UndoAll takes back all that the records know: pins and entries on the host that
// are still ours, live files, and the records themselves. A namespace that is gone, or that is another
// one by its cookie, is left alone and costs its record only. What could not be
// undone keeps its record and is named in the error beside the others. No engine
// may work with the records meanwhile: it would pin again. Records that somebody
// else could have written are not acted on.
func UndoAll(ctx context.Context, records *record.Dir, host *netns.Host) ([]Undone, error) {
	if err := records.Trusted(); err != nil {
		return nil, err
	}
	all, err := records.List()
	errs := []error{err}
	var undone []Undone
	for _, rec := range all {
		one, err := undo(ctx, records, host, rec)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		undone = append(undone, one)
	}
	return undone, errors.Join(errs...)
}

func undo(ctx context.Context, records *record.Dir, host *netns.Host, rec record.Record) (one Undone, err error) {
	one.Record = rec
	if one.Released, err = release(ctx, host, rec); err != nil {
		return one, err
	}
	if one.ReturnPath, err = hoststate.ReleaseReturnPath(ctx, rec.ReturnPath); err != nil {
		return one, err
	}
	if rec.LiveFile {
		if err := records.DeleteLive(rec.ID); err != nil {
			return one, err
		}
	}
	return one, records.Delete(rec.ID)
}

// release removes the pins of one record from its namespace, if that is still
// there.
func release(ctx context.Context, host *netns.Host, rec record.Record) ([]neighbor.Neighbor, error) {
	table, err := neighbor.OpenAt(host, rec.NetNS.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, netns.ErrNotNamespace) {
		return nil, nil // with its entries
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = table.Close() }()
	if table.Cookie() != rec.NetNS.Cookie {
		return nil, nil // its name was given to another, in which nothing is ours
	}
	return table.Release(ctx, rec.Owned())
}
