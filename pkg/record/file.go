// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// version is the version of the files under the state directory.
const version = 1

// maxFile bounds a record's file, in bytes: far above what the limit of
// neighbors allows, far below what could hurt.
const maxFile = 4 << 20

// errBroken says that a file holds no record.
var errBroken = errors.New("the file is broken")

// idPattern is what a sandbox's id may look like: it becomes a file's name.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// ValidID tells whether a sandbox with that id can have a record.
func ValidID(id string) bool { return idPattern.MatchString(id) }

func decode(data []byte) (Record, error) {
	var rec Record
	if err := json.Unmarshal(data, &rec); err != nil {
		return Record{}, err
	}
	if rec.Version != version {
		return Record{}, fmt.Errorf("version %d, want %d", rec.Version, version)
	}
	if !idPattern.MatchString(rec.ID) {
		return Record{}, fmt.Errorf("id %.64q is no sandbox id", rec.ID)
	}
	if rec.NetNS.Cookie == 0 || !filepath.IsAbs(rec.NetNS.Path) {
		return Record{}, errors.New("no network namespace named")
	}
	rec.History = bounded(rec.History)
	return rec, nil
}

func read(path string) (Record, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return Record{}, fmt.Errorf("read record: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Record{}, fmt.Errorf("read record %s: not a regular file", path)
	}
	if info.Size() > maxFile {
		return Record{}, fmt.Errorf("read record %s: %d bytes, more than %d", path, info.Size(), maxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Record{}, fmt.Errorf("read record: %w", err)
	}
	rec, err := decode(data)
	if err != nil {
		return Record{}, fmt.Errorf("read record %s: %w: %w", path, errBroken, err)
	}
	return rec, nil
}
