// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Exists tells whether path still is the namespace with that cookie. It is
// false when there is nothing at path, something else than a network
// namespace, or another one.
//
// It is also true where the question cannot be answered, as without a free
// descriptor: who asks is about to forget a sandbox, and must not do so because
// the machine is short of something.
func Exists(path string, cookie uint64) bool {
	ns, err := Open(path)
	if err != nil {
		gone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) ||
			errors.Is(err, unix.ESRCH) || errors.Is(err, ErrNotNamespace)
		return !gone
	}
	defer ns.Close()
	return ns.Cookie() == cookie
}
