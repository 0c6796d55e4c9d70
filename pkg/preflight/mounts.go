// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mounts are those of this process's namespace, by their numbers.
type mounts map[uint64]mount

// mount is one line of proc(5)'s mountinfo.
type mount struct {
	// receives tells that mounts made elsewhere appear below it: it is shared with
	// others, or a slave of theirs.
	receives bool
}

func readMounts(path string) (mounts, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseMounts(string(data)), nil
}

// parseMounts reads: id, parent, device, root, point, options, optional fields up
// to a hyphen, and what the file system is.
func parseMounts(text string) mounts {
	found := mounts{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		end := slices.Index(fields, "-")
		if end < 6 {
			continue
		}
		id, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			continue
		}
		found[id] = mount{receives: slices.ContainsFunc(fields[6:end], func(optional string) bool {
			return strings.HasPrefix(optional, "shared:") || strings.HasPrefix(optional, "master:")
		})}
	}
	return found
}

// over is the mount that a path is on. The kernel is asked for its number (Linux
// 5.8): by their points one cannot tell a mount from one that another hides.
func (m mounts) over(path string) (mount, bool) {
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &stat); err != nil || stat.Mask&unix.STATX_MNT_ID == 0 {
		return mount{}, false
	}
	found, ok := m[stat.Mnt_id]
	return found, ok
}

// lookAtDirectory sees whether a directory can show namespaces that are yet to come.
func lookAtDirectory(path string, all mounts) directory {
	d := directory{path: path}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		d.err = err
		return d
	}
	entries, err := os.ReadDir(real)
	if err != nil {
		d.err = err
		return d
	}
	for _, entry := range entries {
		var stat unix.Statfs_t
		if unix.Statfs(filepath.Join(real, entry.Name()), &stat) == nil && int64(stat.Type) == unix.NSFS_MAGIC { //nolint:unconvert // its type differs between architectures
			d.holds++
		}
	}
	if m, ok := all.over(real); ok {
		if d.receives = no; m.receives {
			d.receives = yes
		}
	}
	return d
}
