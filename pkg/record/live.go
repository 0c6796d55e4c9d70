// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// LiveFileName is the name of the live file inside the folder of
// [Dir.LiveFolder]. Its content is the value of the annotation that the
// sandbox's containers would get now.
const LiveFileName = "neighbors.json"

// strayAge is how old a folder without a record, or a file that a killed process
// was writing, must be to be taken for a leftover: another process may be making
// it.
const strayAge = time.Minute

// liveMode is a live file's: whoever a container runs as may read it.
const liveMode fs.FileMode = 0o644

// LiveFolder is the folder that a sandbox's containers see; empty while it is not there.
func (r *Dir) LiveFolder(id string) string {
	// Where the runtime is does not matter to a path that is absolute.
	folder, err := filepath.Abs(filepath.Join(r.live, id))
	if err != nil || !ValidID(id) {
		return ""
	}
	if info, err := os.Lstat(folder); err != nil || !info.IsDir() {
		return ""
	}
	return folder
}

// SaveLive makes the live file of a record's sandbox say what the record says.
func (r *Dir) SaveLive(rec Record) error {
	if _, err := r.path(rec.ID); err != nil {
		return err
	}
	text, err := rec.annotation()
	if err == nil {
		err = writeLive(r.live, rec.ID, text)
	}
	if err != nil {
		return fmt.Errorf("write live file of sandbox %s: %w", rec.ID, err)
	}
	return nil
}

// DeleteLive removes a live file with its folder; one that is not there is no error.
func (r *Dir) DeleteLive(id string) error {
	if _, err := r.path(id); err != nil {
		return nil //nolint:nilerr // there can be none
	}
	if err := os.RemoveAll(filepath.Join(r.live, id)); err != nil {
		return fmt.Errorf("remove live file of sandbox %s: %w", id, err)
	}
	return nil
}

// writeLive replaces a live file unless it says that already; of one that
// has nothing to say yet only the folder is made. The modes depend neither on this
// process's umask nor on what is there.
func writeLive(parent, id, text string) error {
	folder := filepath.Join(parent, id)
	for _, dir := range []string{parent, folder} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	path := filepath.Join(folder, LiveFileName)
	if text == "" {
		return nil
	}
	if says(path, text) {
		return nil
	}
	// Written outside the folder, so that containers see nothing half-made.
	file, err := renameio.NewPendingFile(path, renameio.WithTempDir(parent), renameio.WithStaticPermissions(liveMode))
	if err != nil {
		return err
	}
	defer func() { _ = file.Cleanup() }()
	if _, err := file.WriteString(text); err != nil {
		return err
	}
	return file.CloseAtomicallyReplace()
}

// says tells whether a live file has that text, for everybody. A container that may
// mount can make its folder writable: what is there may be a link, a pipe, a device,
// endless or hidden from others, and then it says something else.
func says(path, text string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != liveMode || info.Size() != int64(len(text)) {
		return false
	}
	// It may have been replaced since.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	now, err := file.Stat()
	if err != nil || !os.SameFile(info, now) {
		return false
	}
	old, err := io.ReadAll(io.LimitReader(file, int64(len(text))+1))
	return err == nil && string(old) == text
}

// SweepLive removes what earlier processes left: folders of sandboxes that
// have no record any more, and files that were being written.
func (r *Dir) SweepLive() error {
	entries, err := os.ReadDir(r.live)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list live files: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		id := entry.Name()
		// A folder whose record is broken may be in use: what is there stays,
		// and so does the mount of it.
		_, err := r.Load(id)
		stray := errors.Is(err, fs.ErrNotExist) && !r.WasBroken(id) || strings.HasPrefix(id, ".")
		if info, err := entry.Info(); !stray || err != nil || time.Since(info.ModTime()) < strayAge {
			continue
		}
		errs = append(errs, os.RemoveAll(filepath.Join(r.live, id)))
	}
	return errors.Join(errs...)
}
