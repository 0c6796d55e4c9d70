// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// arm makes inotify watch each directory or, while it does not exist, the
// nearest one above it.
func (w *Watcher) arm() error {
	wanted := make(map[string]struct{})
	var errs []error
	for _, dir := range w.dirs {
		at, err := w.watchNearest(dir)
		if err != nil {
			errs = append(errs, fmt.Errorf("watch network namespaces in %s: %w", quote(dir), err))
			continue
		}
		wanted[at] = struct{}{}
	}
	for path := range w.armed {
		if _, ok := wanted[path]; !ok {
			w.disarm(path)
		}
	}
	return errors.Join(errs...)
}

// watchNearest starts at dir and goes up until it finds something to watch.
// Having done so it looks at the next step toward dir once more, since that may
// have been made in between.
func (w *Watcher) watchNearest(dir string) (string, error) {
	at := dir
	for {
		err := w.watch(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
			at = filepath.Dir(at)
		case err != nil:
			return "", err
		case at == dir:
			return at, nil
		default:
			if _, err := os.Stat(childToward(at, dir)); errors.Is(err, fs.ErrNotExist) {
				return at, nil
			}
			at = dir
		}
	}
}

// childToward returns the name directly below at on the way to dir.
func childToward(at, dir string) string {
	for filepath.Dir(dir) != at {
		dir = filepath.Dir(dir)
	}
	return dir
}

// watch makes inotify watch the directory that path leads to at this moment. A
// watch is on the directory itself, so one that stands for an older directory
// of this name is given up first.
func (w *Watcher) watch(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return unwrapPath(err)
	}
	if !info.IsDir() {
		return unix.ENOTDIR
	}
	if old, ok := w.armed[path]; ok {
		if os.SameFile(old, info) && slices.Contains(w.notify.WatchList(), path) {
			return nil
		}
		w.disarm(path)
	}
	if err := w.notify.Add(path); err != nil {
		return unwrapPath(err)
	}
	w.armed[path] = info
	return nil
}

func (w *Watcher) disarm(path string) {
	delete(w.armed, path)
	// The kernel has dropped it already when the directory is gone.
	_ = w.notify.Remove(path)
}

// moved tells whether some path leads to another directory than the one that is
// watched for it.
func (w *Watcher) moved() bool {
	for _, dir := range w.dirs {
		info, err := os.Stat(dir)
		old, armed := w.armed[dir]
		switch {
		case err != nil && armed, err == nil && !armed:
			return true
		case err == nil && !os.SameFile(old, info):
			return true
		}
	}
	return false
}

// unwrapPath drops the path that the caller is going to name anyway.
func unwrapPath(err error) error {
	var perr *fs.PathError
	if errors.As(err, &perr) {
		return perr.Err
	}
	return err
}
