// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Between these two the pause before the next look at an unmounted file grows.
// Making the file and mounting on it are neighbouring lines in every runtime,
// so the first looks are close together; a file that was left behind by a crash
// is then looked at rarely.
const (
	firstPause   = 200 * time.Microsecond
	longestPause = 50 * time.Millisecond
)

// openMounted is Host.OpenMounted for any namespace.
func openMounted(ctx context.Context, path string) (*NS, error) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for wait := firstPause; ; wait = min(2*wait, longestPause) {
		ns, err := Open(path)
		if err == nil {
			return ns, nil
		}
		if !errors.Is(err, ErrNotNamespace) || errors.Is(err, errOtherKind) {
			return nil, err
		}
		empty, statErr := isEmptyFile(path)
		if statErr != nil {
			return nil, &Error{Op: "open", Path: path, Err: statErr}
		}
		if !empty {
			return nil, err
		}
		pause.Reset(wait)
		select {
		case <-ctx.Done():
			return nil, &Error{Op: "wait for", Path: path,
				Err: fmt.Errorf("still an empty file, no namespace mounted on it: %w", ctx.Err())}
		case <-pause.C:
		}
	}
}

// isEmptyFile is also true of a namespace that was mounted since path was
// opened; the next look finds it.
func isEmptyFile(path string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return false, err
	}
	return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0, nil
}
