// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/netns"
)

// FileAnnotation is the pod annotation by which a pod asks for the live file
// ("true"). [Selector.Select] says when it is granted.
const FileAnnotation = "neighpin.io/file"

// LiveFileName is the name of the live file inside the folder of
// [Engine.LiveFile]. Its content is the value of the annotation that the
// sandbox's containers would get now.
const LiveFileName = "neighbors.json"

// strayAge is how old a folder without a record, or a file that a killed process
// was writing, must be to be taken for a leftover: another process may be making
// it.
const strayAge = time.Minute

// liveFile is the state of one sandbox's live file.
type liveFile struct {
	mu   sync.Mutex // held while the file is written or removed
	gone bool       // guarded by mu: it is not written any more
}

// LiveFile returns the folder that the sandbox's containers see, read-only; empty
// when they get none. The folder is there when the call returns, and the file in
// it as soon as the sandbox has been looked at. What hinders that is reported and
// costs containers their file, never their start.
func (e *Engine) LiveFile(id string) string {
	s, known := e.find(id)
	switch {
	case s != nil:
		if !s.selected.File || !e.publish(s) {
			return ""
		}
	case known:
		return ""
	default: // another process may have begun
		rec, err := e.records.Load(id)
		if err != nil || !rec.LiveFile || !netns.Exists(rec.NetNS.Path, rec.NetNS.Cookie) {
			return ""
		}
	}
	// Where the runtime is does not matter to a path that is absolute.
	folder, err := filepath.Abs(filepath.Join(e.liveFiles(), id))
	if err != nil || !idPattern.MatchString(id) {
		return ""
	}
	if info, err := os.Lstat(folder); err != nil || !info.IsDir() {
		return ""
	}
	return folder
}

// liveFiles is the folder of all live files, each in a folder of its own: a bind
// mount of a file would go on showing the first one when it is replaced.
func (e *Engine) liveFiles() string { return filepath.Join(e.opts.StateDir, "files") }

// publish makes the sandbox's live file say what its record says; it is called
// whenever that has changed. It reports whether the folder is there.
func (e *Engine) publish(s *sandbox) bool {
	if !s.selected.File {
		return false
	}
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	if s.live.gone {
		return false
	}
	rec := s.record()
	text, err := rec.annotation()
	if err == nil {
		err = writeLiveFile(e.liveFiles(), rec.ID, text)
	}
	if err != nil {
		e.report(Event{Kind: KindState, Record: rec, Err: fmt.Errorf("write live file of sandbox %s: %w", rec.ID, err)})
		return false
	}
	return true
}

// writeLiveFile replaces a live file unless it says that already; of one that
// has nothing to say yet only the folder is made. Whoever a container runs as may
// read it: the modes do not depend on this process's umask.
func writeLiveFile(parent, id, text string) error {
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
	return renameio.WriteFile(path, []byte(text), 0o644, renameio.WithTempDir(parent), renameio.WithStaticPermissions(0o644))
}

// says tells whether a live file has that text. A container that may mount can make
// its folder writable: what is there may be a link, a pipe, a device or endless,
// and then it says something else.
func says(path, text string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != int64(len(text)) {
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

// withdraw removes the sandbox's live file for good. Containers that are still
// there see an empty folder.
func (e *Engine) withdraw(s *sandbox) {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	s.live.gone = true
	if !s.selected.File || !idPattern.MatchString(s.id.ID) || e.succeeded(s) {
		return
	}
	if err := os.RemoveAll(filepath.Join(e.liveFiles(), s.id.ID)); err != nil {
		e.report(Event{Kind: KindState, Record: s.record(), Err: fmt.Errorf("remove live file of sandbox %s: %w", s.id.ID, err)})
	}
}

// sweepLiveFiles removes what earlier processes left: folders of sandboxes that
// have no record any more, and files that were being written.
func (e *Engine) sweepLiveFiles() error {
	entries, err := os.ReadDir(e.liveFiles())
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
		_, err := e.records.Load(id)
		stray := errors.Is(err, fs.ErrNotExist) && !e.records.WasBroken(id) || strings.HasPrefix(id, ".")
		if info, err := entry.Info(); !stray || err != nil || time.Since(info.ModTime()) < strayAge {
			continue
		}
		errs = append(errs, os.RemoveAll(filepath.Join(e.liveFiles(), id)))
	}
	return errors.Join(errs...)
}
