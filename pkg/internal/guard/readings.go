// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// readingsAge is how long what was read of the host serves others. Whatever is heard
// to have changed ends it at once; this is for what waits to be heard.
const readingsAge = 200 * time.Millisecond

// hostReadings are what was read of the host's links and addresses since something
// last happened to any of them: where many sandboxes are compared one after the other,
// because something happened that concerns them all, they are judged by the same.
type hostReadings struct {
	current *neighbor.Readings
	began   time.Time
	watcher HostWatcher // that has heard the host since then
}

// shared returns what a comparison for that cause may go by; nil is nothing.
//
// It is as true as what the comparison would read itself. What happens after a reading
// is either heard before it is handed out here, which is why it then is not, or
// after: then those that rest on it are compared again, and so are those of which
// that is found only now (see Guard.rebase).
func (g *Guard) shared(cause Cause) *neighbor.Readings {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := &g.readings
	now := time.Now()
	if r.watcher != g.watcher || g.watcher == nil || now.Sub(r.began) > readingsAge {
		*r = hostReadings{watcher: g.watcher, began: now} // nobody told of changes, or not in time perhaps
	}
	if r.current == nil && g.watcher != nil && cause != Event { // which is mostly of one sandbox alone
		r.current, r.began = neighbor.NewReadings(), now
	}
	return r.current
}

// outdate ends the readings when an event tells that the host has changed.
func (r *hostReadings) outdate(ev neighbor.HostEvent) {
	switch ev.Kind {
	case neighbor.LinkChanged, neighbor.LinkRemoved, neighbor.AddrAdded, neighbor.AddrRemoved:
		if ev.NSID == neighbor.HostNSID {
			r.current = nil
		}
	case neighbor.Overrun:
		r.current = nil
	}
}
