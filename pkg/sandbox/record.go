// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// recordVersion is the version of the files under the state directory.
const recordVersion = 1

// maxRecord bounds a record's file, in bytes: far above what the limit of
// neighbors allows, far below what could hurt.
const maxRecord = 4 << 20

// Phase says how far a sandbox has come.
type Phase string

// The phases.
const (
	// Starting: the runtime may not have read the namespace yet.
	Starting Phase = "starting"
	// Started: the runtime has it, or its first container has come.
	Started Phase = "started"
)

// Verdict says whether a sandbox began its life with its gateways pinned.
type Verdict string

// The verdicts, from the weakest to the strongest.
const (
	// Pending: not decided yet.
	Pending Verdict = "pending"
	// Nothing: the sandbox has no gateway that could be pinned.
	Nothing Verdict = "nothing"
	// Unproven: pinned, but nothing shows when the runtime read the namespace.
	Unproven Verdict = "unproven"
	// Late: the runtime was quicker, or a pin was missing when it came.
	Late Verdict = "late"
	// InTime: the kernel had acknowledged every pin, and none was lost,
	// before the runtime took the first address or, for pods that use the
	// kernel's stack, before the first container.
	InTime Verdict = "inTime"
)

var strength = map[Verdict]int{Pending: 0, Nothing: 1, Unproven: 2, Late: 3, InTime: 4}

// Timing is the proof of time of one sandbox.
type Timing struct {
	// Verdict is the outcome.
	Verdict Verdict `json:"verdict"`
	// MarginMs is the time, in milliseconds, from the kernel's last
	// acknowledgement to the moment that counts; only with InTime, and with
	// Late where both moments were seen (then it is negative).
	MarginMs float64 `json:"marginMs,omitempty"`
	// PinnedAt is when the kernel acknowledged the last pin.
	PinnedAt time.Time `json:"pinnedAt,omitzero"`
	// ResultToPinMs is the time, in milliseconds, from the last read of the
	// sandbox's record that had no CNI result to the acknowledgement: an upper
	// bound, as the result was written somewhen after that read.
	ResultToPinMs float64 `json:"resultToPinMs,omitempty"`
}

// NetNS names a network namespace.
type NetNS struct {
	// Path is where it was found; Cookie is what it is (SO_NETNS_COOKIE).
	Path   string `json:"path"`
	Cookie uint64 `json:"cookie"`
}

// Record is what is known of one selected sandbox: its file under the state
// directory and its part of the status.
type Record struct {
	// Version of the file's format.
	Version int `json:"version"`
	// ID is the sandbox's; Name, Namespace and UID are the pod's.
	ID        string `json:"id"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
	// Handler and Runtime as in [Identity].
	Handler string `json:"handler"`
	Runtime string `json:"runtime,omitempty"`
	// NetNS is the sandbox's network namespace.
	NetNS NetNS `json:"netns"`
	// Phase says how far the sandbox has come.
	Phase Phase `json:"phase"`
	// Neighbors are the pins, and the permanent entries of other owners that
	// serve as such; those that are not of source "existing" are ours.
	Neighbors []neighbor.Neighbor `json:"neighbors"`
	// Skipped are the gateways that are not pinned, with the reason.
	Skipped []neighbor.Skipped `json:"skipped"`
	// CapturedAt is when Neighbors was read and written.
	CapturedAt time.Time `json:"capturedAt,omitzero"`
	// Timing is the proof of time.
	Timing Timing `json:"timing"`
	// Repins counts how often lost pins were written again.
	Repins int `json:"repins"`
	// Annotated tells that containers of the sandbox get the annotation.
	Annotated bool `json:"annotated"`
	// Error is the last failure that left the sandbox without its pins.
	Error string `json:"error,omitempty"`
}

// Owned are the neighbors that neighpin itself wrote.
func (r Record) Owned() []neighbor.Neighbor {
	var owned []neighbor.Neighbor
	for _, n := range r.Neighbors {
		if n.Source != neighbor.SourceExisting {
			owned = append(owned, n)
		}
	}
	return owned
}

// Foreign are the permanent entries of other owners.
func (r Record) Foreign() []neighbor.Neighbor {
	var foreign []neighbor.Neighbor
	for _, n := range r.Neighbors {
		if n.Source == neighbor.SourceExisting {
			foreign = append(foreign, n)
		}
	}
	return foreign
}

// Annotation is the record's content for the sandbox's containers; empty when
// they get none, or when the sandbox has not been looked at in time. A sandbox
// with nothing to pin has an annotation that says so.
func (r Record) Annotation() (string, error) {
	if !r.Annotated || r.CapturedAt.IsZero() {
		return "", nil
	}
	a := annotation.Annotation{Cookie: r.NetNS.Cookie, CapturedAt: r.CapturedAt}
	for _, n := range r.Neighbors {
		a.Neighbors = append(a.Neighbors, annotation.Entry{
			Dst: n.Dst, Dev: n.Dev, LLAddr: annotation.HardwareAddr(n.LLAddr), Source: annotation.Source(n.Source),
		})
	}
	return a.Marshal()
}

// idPattern is what a sandbox's id may look like: it becomes a file's name.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// Records is the directory of records, one file per sandbox. Two processes may
// share it; each file is replaced as a whole. It is safe for concurrent use as
// long as one goroutine writes one id.
type Records struct {
	dir string
}

// OpenRecords opens, and makes where needed, the directory "sandboxes" under
// the state directory, for root only.
func OpenRecords(stateDir string) (*Records, error) {
	r := RecordsIn(stateDir)
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory for records: %w", err)
	}
	for _, dir := range []string{stateDir, r.dir} {
		if err := trusted(dir); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// trusted refuses a directory in which somebody else could replace files.
func trusted(dir string) error {
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return fmt.Errorf("look at state directory %s: %w", dir, err)
	}
	if int(stat.Uid) != os.Geteuid() || stat.Mode&0o022 != 0 {
		return fmt.Errorf("state directory %s belongs to uid %d with mode %04o: want own uid, and nobody else to write",
			dir, stat.Uid, stat.Mode&0o7777)
	}
	return nil
}

// RecordsIn names the directory under the state directory without making it:
// what is not there holds no records, and Save makes it.
func RecordsIn(stateDir string) *Records {
	return &Records{dir: filepath.Join(stateDir, "sandboxes")}
}

// Save writes a record.
func (r *Records) Save(rec Record) error {
	path, err := r.path(rec.ID)
	if err != nil {
		return err
	}
	rec.Version = recordVersion
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

// Load reads the record of one sandbox; the error wraps fs.ErrNotExist when
// there is none.
func (r *Records) Load(id string) (Record, error) {
	path, err := r.path(id)
	if err != nil {
		return Record{}, err
	}
	rec, err := readRecord(path)
	if err == nil && rec.ID != id {
		err = fmt.Errorf("read record %s: it is of sandbox %.64q", path, rec.ID)
	}
	return rec, err
}

// LoadAll reads all records. Files that cannot be read are set aside with the
// suffix ".broken", named in the error beside the others; those set aside
// before are removed.
func (r *Records) LoadAll() ([]Record, error) {
	errs := r.sweep()
	records, err := r.each(func(path string, err error) error {
		return errors.Join(fmt.Errorf("%w (set aside as %s.broken)", err, path), os.Rename(path, path+".broken"))
	})
	return records, errors.Join(append(errs, err)...)
}

// sweep removes what was set aside before, and files that a process killed while
// writing left behind.
func (r *Records) sweep() []error {
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

// ByCookie returns the records of all sandboxes that have the namespace, and
// changes nothing. Files that cannot be read are named in the error.
func (r *Records) ByCookie(cookie uint64) ([]Record, error) {
	records, err := r.each(func(_ string, err error) error { return err })
	return slices.DeleteFunc(records, func(rec Record) bool { return rec.NetNS.Cookie != cookie }), err
}

// each reads all records; what broken returns of those that cannot be read is
// joined.
func (r *Records) each(broken func(path string, err error) error) ([]Record, error) {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	var records []Record
	var errs []error
	for _, entry := range entries {
		id, isRecord := strings.CutSuffix(entry.Name(), ".json")
		if !isRecord {
			continue // another process is writing
		}
		rec, err := r.Load(id)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile
		case err != nil:
			errs = append(errs, broken(filepath.Join(r.dir, entry.Name()), err))
		default:
			records = append(records, rec)
		}
	}
	return records, errors.Join(errs...)
}

// Delete removes the record of a sandbox; one that is not there is no error.
func (r *Records) Delete(id string) error {
	path, err := r.path(id)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record of sandbox %s: %w", id, err)
	}
	return nil
}

func (r *Records) path(id string) (string, error) {
	if !idPattern.MatchString(id) {
		return "", fmt.Errorf("record of sandbox %.64q: the id is no file name", id)
	}
	return filepath.Join(r.dir, id+".json"), nil
}

func readRecord(path string) (Record, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return Record{}, fmt.Errorf("read record: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Record{}, fmt.Errorf("read record %s: not a regular file", path)
	}
	if info.Size() > maxRecord {
		return Record{}, fmt.Errorf("read record %s: %d bytes, more than %d", path, info.Size(), maxRecord)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Record{}, fmt.Errorf("read record: %w", err)
	}
	rec, err := decodeRecord(data)
	if err != nil {
		return Record{}, fmt.Errorf("read record %s: %w", path, err)
	}
	return rec, nil
}

func decodeRecord(data []byte) (Record, error) {
	var rec Record
	if err := json.Unmarshal(data, &rec); err != nil {
		return Record{}, err
	}
	if rec.Version != recordVersion {
		return Record{}, fmt.Errorf("version %d, want %d", rec.Version, recordVersion)
	}
	if !idPattern.MatchString(rec.ID) {
		return Record{}, fmt.Errorf("id %.64q is no sandbox id", rec.ID)
	}
	if rec.NetNS.Cookie == 0 || !filepath.IsAbs(rec.NetNS.Path) {
		return Record{}, errors.New("no network namespace named")
	}
	return rec, nil
}
