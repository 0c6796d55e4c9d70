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

// mount is one line of proc(5)'s mountinfo.
type mount struct {
	point string
	// receives tells that mounts made elsewhere appear below it: it is shared with
	// others, or a slave of theirs.
	receives bool
}

func readMounts(path string) ([]mount, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseMounts(string(data)), nil
}

// parseMounts reads: id, parent, device, root, point, options, optional fields up
// to a hyphen, and what the file system is.
func parseMounts(text string) (mounts []mount) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		end := slices.Index(fields, "-")
		if end < 6 {
			continue
		}
		m := mount{point: unescape(fields[4])}
		for _, optional := range fields[6:end] {
			m.receives = m.receives || strings.HasPrefix(optional, "shared:") || strings.HasPrefix(optional, "master:")
		}
		mounts = append(mounts, m)
	}
	return mounts
}

// unescape reads the octal numbers that stand for blanks and the like.
func unescape(text string) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, `\`)
		out.WriteString(before)
		if !found {
			return out.String()
		}
		if len(after) < 3 {
			return out.String() + after
		}
		if c, err := strconv.ParseUint(after[:3], 8, 8); err == nil {
			out.WriteByte(byte(c))
		}
		text = after[3:]
	}
}

// over is the mount that a path is on: the deepest, and of several on one point the
// last.
func over(path string, mounts []mount) (found mount, ok bool) {
	for _, m := range mounts {
		inside := m.point == "/" || path == m.point || strings.HasPrefix(path, m.point+"/")
		if inside && len(m.point) >= len(found.point) {
			found, ok = m, true
		}
	}
	return found, ok
}

// lookAtDirectory sees whether a directory can show namespaces that are yet to come.
func lookAtDirectory(path string, mounts []mount, mountErr error) directory {
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
	if m, ok := over(real, mounts); ok && mountErr == nil {
		if d.receives = no; m.receives {
			d.receives = yes
		}
	}
	return d
}
