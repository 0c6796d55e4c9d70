// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

// goneTimeout bounds the questions whether a namespace has ended.
const goneTimeout = time.Second

// Gone tells whether the sandbox's namespace has ended, as far as this process can
// see. That its file is not there is not enough: the directory can be out of sight
// for a moment, or another be mounted over it. As long as the host has the other
// end of one of the sandbox's links, and that leads somewhere else, the namespace
// is there, since both ends of a pair end together. Of a sandbox without such a
// link its file is all there is to go by.
// It takes at most a second.
func (r Record) Gone(ctx context.Context) bool {
	if netns.Exists(r.NetNS.Path, r.NetNS.Cookie) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	for _, end := range r.Ends {
		if leads, err := neighbor.LeadsOut(ctx, end); err != nil || leads {
			return false // or cannot be looked at
		}
	}
	return true
}
