// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

// Dir is the state directory: the records, one file per sandbox, and the live files. Two processes may
// share it; each file is replaced as a whole. It is safe for concurrent use as
// long as one goroutine writes one id.
type Dir struct {
	dir  string
	live string        // of all live files, each in a folder of its own: a bind mount of a file would go on showing the first one when it is replaced
	turn chan struct{} // held by the one of this process that merges
}

// lockAttempts bounds the wait for another process's write, in milliseconds.
const lockAttempts = 100

// ErrUntrusted says that the state directory is one that others can write to.
var ErrUntrusted = errors.New("state directory is not safe")

// Open opens, and makes where needed, the directory "sandboxes" under
// the state directory, for root only.
func Open(stateDir string) (*Dir, error) {
	r := In(stateDir)
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return r, fmt.Errorf("make directory for records: %w", err)
	}
	for _, dir := range []string{stateDir, r.dir} {
		if err := trusted(dir); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Trusted is an error where somebody else could write records, or replace them. A
// directory that is not there holds none.
func (r *Dir) Trusted() error {
	for _, dir := range []string{filepath.Dir(r.dir), r.dir} {
		if err := trusted(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// trusted refuses a directory in which somebody else could replace files.
func trusted(dir string) error {
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return fmt.Errorf("look at state directory %s: %w", dir, err)
	}
	if int(stat.Uid) != os.Geteuid() || stat.Mode&0o022 != 0 {
		return fmt.Errorf("%w: %s belongs to uid %d with mode %04o; want own uid, and nobody else to write",
			ErrUntrusted, dir, stat.Uid, stat.Mode&0o7777)
	}
	return nil
}

// In names the directory under the state directory without making it:
// what is not there holds no records, and Save makes it.
func In(stateDir string) *Dir {
	return &Dir{dir: filepath.Join(stateDir, "sandboxes"), live: filepath.Join(stateDir, "files"), turn: make(chan struct{}, 1)}
}

// Save writes a record.
func (r *Dir) Save(rec Record) error {
	path, err := r.path(rec.ID)
	if err != nil {
		return err
	}
	rec.Version = version
	data, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return fmt.Errorf("encode record of sandbox %s: %w", rec.ID, err)
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("make directory for records: %w", err)
	}
	if err := renameio.WriteFile(path, append(data, '\n'), 0o600, renameio.WithTempDir(r.dir)); err != nil {
		return fmt.Errorf("write record of sandbox %s: %w", rec.ID, err)
	}
	return nil
}

// Merge writes a record after asking with what is there of the same sandbox, if
// anything; no other process that merges writes in between.
func (r *Dir) Merge(rec Record, merge func(old, rec Record) Record) error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("make directory for records: %w", err)
	}
	defer r.takeTurn()()
	lock, err := os.OpenFile(filepath.Join(filepath.Dir(r.dir), "records.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock records: %w", err)
	}
	defer func() { _ = lock.Close() }()
	// Without the lock, should its holder be stopped, a weaker proof may stand on
	// disk; waiting for ever would cost pins.
	for range lockAttempts {
		if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		<-time.After(time.Millisecond)
	}
	// What cannot be read is written over.
	if old, err := r.Load(rec.ID); err == nil {
		rec = merge(old, rec)
	}
	return r.Save(rec)
}

// takeTurn waits until nobody else of this process merges, which one need not look for
// every millisecond, and returns what ends that. It waits no longer than for the lock.
func (r *Dir) takeTurn() (end func()) {
	end = func() { <-r.turn }
	select {
	case r.turn <- struct{}{}:
		return end
	default:
	}
	limit := time.NewTimer(lockAttempts * time.Millisecond)
	defer limit.Stop()
	select {
	case r.turn <- struct{}{}:
		return end
	case <-limit.C:
		return func() {}
	}
}

// Load reads the record of one sandbox; the error wraps fs.ErrNotExist when
// there is none.
func (r *Dir) Load(id string) (Record, error) {
	path, err := r.path(id)
	if err != nil {
		return Record{}, err
	}
	rec, err := read(path)
	if err == nil && rec.ID != id {
		err = fmt.Errorf("read record %s: it is of sandbox %.64q", path, rec.ID)
	}
	return rec, err
}

// LoadEach reads all records, so many at once, for load, which takes them in any order.
// Files that cannot be read are set aside with the suffix ".broken", named in the error
// beside the others; those set aside before are removed.
func (r *Dir) LoadEach(readers int, load func(Record)) error {
	errs := r.sweep()
	err := r.visit(readers, func(path string, err error) error {
		return errors.Join(fmt.Errorf("%w (set aside as %s.broken)", err, path), os.Rename(path, path+".broken"))
	}, load)
	return errors.Join(append(errs, err)...)
}

// sweep removes what was set aside before, and files that a process killed while
// writing left behind.
func (r *Dir) sweep() []error {
	var errs []error
	for pattern, age := range map[string]time.Duration{"*.broken": 0, ".*.json*": time.Minute} {
		paths, err := filepath.Glob(filepath.Join(r.dir, pattern))
		errs = append(errs, err)
		for _, path := range paths {
			if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) >= age {
				errs = append(errs, os.Remove(path))
			}
		}
	}
	return errs
}

// WasBroken tells that the sandbox had a record that could not be read and was
// set aside.
func (r *Dir) WasBroken(id string) bool {
	path, err := r.path(id)
	if err != nil {
		return false
	}
	_, err = os.Lstat(path + ".broken")
	return err == nil
}

// ByCookie returns the records of all sandboxes that have the namespace, and
// changes nothing. Files that cannot be read are named in the error.
func (r *Dir) ByCookie(cookie uint64) ([]Record, error) {
	records, err := r.List()
	return slices.DeleteFunc(records, func(rec Record) bool { return rec.NetNS.Cookie != cookie }), err
}

// List returns all records, and changes nothing. Files that cannot be read are
// named in the error beside the others.
func (r *Dir) List() (records []Record, err error) {
	err = r.visit(1, func(_ string, err error) error { return err }, func(rec Record) { records = append(records, rec) })
	return records, err
}

// visit reads all records, so many at once, and gives them to visit in any order. What
// broken returns of those that cannot be read is joined.
func (r *Dir) visit(readers int, broken func(path string, err error) error, visit func(Record)) error {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list records: %w", err)
	}
	var next atomic.Int64
	errs := make([]error, len(entries))
	var all sync.WaitGroup
	for range readers {
		all.Go(func() {
			for at := next.Add(1) - 1; at < int64(len(entries)); at = next.Add(1) - 1 {
				name := entries[at].Name()
				id, isRecord := strings.CutSuffix(name, ".json")
				if !isRecord {
					continue // another process is writing
				}
				rec, err := r.Load(id)
				switch {
				case errors.Is(err, fs.ErrNotExist): // removed meanwhile
				case errors.Is(err, errBroken):
					errs[at] = broken(filepath.Join(r.dir, name), err)
				case err != nil:
					errs[at] = err
				default:
					visit(rec)
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// Delete removes the record of a sandbox; one that is not there is no error.
func (r *Dir) Delete(id string) error {
	path, err := r.path(id)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record of sandbox %s: %w", id, err)
	}
	return nil
}

func (r *Dir) path(id string) (string, error) {
	if !ValidID(id) {
		return "", fmt.Errorf("record of sandbox %.64q: the id is no file name", id)
	}
	return filepath.Join(r.dir, id+".json"), nil
}

// Addresses lists those of all sandboxes that the records know and whose namespace
// is there. It changes nothing; what cannot be read is named in the error beside the
// others.
func (r *Dir) Addresses() (list []neighbor.Address, err error) {
	records, err := r.List()
	for _, rec := range records {
		if netns.Exists(rec.NetNS.Path, rec.NetNS.Cookie) {
			list = append(list, rec.Addresses...)
		}
	}
	return list, err
}
