// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"strconv"
	"strings"
)

// release is a version's numbers; what follows them does not count.
type release [3]int

// parseRelease reads "2.4.2+unknown", "v1.7.35" or "6.18.5-generic".
func parseRelease(text string) (r release, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(text, "v"), ".", 3)
	if len(parts) < 2 {
		return r, false
	}
	for i, part := range parts {
		end := strings.IndexFunc(part, func(c rune) bool { return c < '0' || c > '9' })
		if end < 0 {
			end = len(part)
		}
		n, err := strconv.Atoi(part[:end])
		if err != nil {
			return r, false
		}
		r[i] = n
	}
	return r, true
}

// atLeast compares with another.
func (r release) atLeast(o release) bool {
	for i := range r {
		if r[i] != o[i] {
			return r[i] > o[i]
		}
	}
	return true
}

// refusesSandboxes tells whether a release of containerd takes a sandbox away that a
// plugin refuses, once it has started (docs/compatibility.md has the releases).
func (r release) refusesSandboxes() bool {
	return r.atLeast(release{2, 3, 3}) || r.atLeast(release{2, 2, 6}) && !r.atLeast(release{2, 3, 0})
}
