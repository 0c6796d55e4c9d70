// SPDX-License-Identifier: Apache-2.0

package sandbox

import "time"

// unseen stands for a moment that nobody saw.
func unseen() time.Time { return time.Time{}.Add(1) }

// ContainerThere takes what NRI's Synchronize lists: that a sandbox has a
// container. Of one that is being kept until its first container comes that one
// has come unseen, while there was no connection to NRI: it has started, and
// whether its pins were in time nothing shows.
func (e *Engine) ContainerThere(id string) {
	s, _ := e.find(id)
	if s == nil {
		return
	}
	s.mu.Lock()
	if s.containerAt.IsZero() {
		s.containerAt = unseen()
	}
	s.mu.Unlock()
	s.container.open()
}
