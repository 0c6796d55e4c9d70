// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

// Gone tells whether the sandbox's namespace has ended, as far as this process can
// see. That its file is not there is not enough: the directory can be out of sight
// for a moment, or another be mounted over it. As long as the host has the other
// end of one of the sandbox's links, and that leads somewhere else, the namespace
// is there, since both ends of a pair end together. Of a sandbox without such a
// link its file is all there is to go by.
func (r Record) Gone(ctx context.Context) bool {
	if r.NetNS.Cookie != 0 && netns.Exists(r.NetNS.Path, r.NetNS.Cookie) {
		return false
	}
	for _, end := range r.Ends {
		if leads, err := neighbor.LeadsOut(ctx, end); err != nil || leads {
			return false // or cannot be looked at
		}
	}
	return true
}

// over tells whether a sandbox is to be forgotten whose namespace's file went. One
// whose life goes on keeps its namespace itself, by its sockets; should it only have
// been out of sight, it is found again.
func (e *Engine) over(s *sandbox) bool {
	return !s.settled() || s.record().Gone(e.ctx)
}

// appeared has the sandboxes compared whose namespace's file is there again.
func (e *Engine) appeared(path string) {
	e.mu.Lock()
	var list []*sandbox
	for _, s := range e.sandboxes {
		if s.settled() && sameFile(s.id.NetNSPath, path) {
			list = append(list, s)
		}
	}
	e.mu.Unlock()
	e.guard.checkAfter(takeover, list)
}
