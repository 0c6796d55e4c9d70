// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// gatherFor is the pause between two reads of a namespace's events while CNI is at work,
// where the file of its result is sure to tell of its end.
const gatherFor = 10 * time.Millisecond

// batch is what one read of the namespace's events returned.
type batch struct {
	at     time.Time
	events []neighbor.Event
}

// pump reads events until the watcher is closed.
func (l *life) pump() {
	defer close(l.batches)
	for {
		events, err := l.watch.Receive()
		if err != nil {
			return
		}
		l.batches <- batch{time.Now(), events}
		if l.engine.results.leads.Load() {
			l.gather(gatherFor)
		}
	}
}

// gather lets events come together while CNI is at work. It makes dozens, each by itself,
// and to wake for each takes more of the processor, from CNI, than to read them; only
// the time of an address that goes is of use before CNI has finished, and later than it was
// it errs on the side of proving nothing.
func (l *life) gather(pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.hurry:
	}
}
