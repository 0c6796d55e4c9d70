// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"sync"

	"github.com/neighpin/neighpin/pkg/record"
)

// component is who the Events say they are from.
const component = "neighpin"

// Outcome is what became of one trouble that was to be told.
type Outcome string

// The outcomes.
const (
	// Sent: the API server has it, in an Event of its own or in one's count.
	Sent Outcome = "sent"
	// Dropped: too much was waiting.
	Dropped Outcome = "dropped"
	// Failed: the API server would not take it, or could not be reached for long.
	Failed Outcome = "failed"
	// Obsolete: the pod's namespace is gone, or going.
	Obsolete Outcome = "obsolete"
)

// Outcomes lists all outcomes.
func Outcomes() []Outcome { return []Outcome{Sent, Dropped, Failed, Obsolete} }

// Options are what a [Recorder] works with. All fields are required.
type Options struct {
	// Next takes every event of the engine, first.
	Next record.Reporter
	// Server is the API server.
	Server Server
	// Node is the node's name, which the Events tell.
	Node string
	// Count is told of every outcome; it must not block.
	Count func(Outcome)
	// Fault is told when Events cannot be written, once, and with nil when they can
	// again.
	Fault func(error)
}

// queueLength bounds what waits between the engine and the recorder: 110 pods, as
// many as a node has by default, with two troubles each.
const queueLength = 256

// Recorder writes the troubles of pods as Events. It is safe for concurrent use.
type Recorder struct {
	opts   Options
	pacing pacing
	queue  chan trouble
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

var _ record.Reporter = (*Recorder)(nil)

// New prepares a recorder. What is reported before Start waits, as far as there is
// room.
func New(opts Options) *Recorder {
	return &Recorder{opts: opts, pacing: usualPacing(), queue: make(chan trouble, queueLength), cancel: func() {}}
}

// Start begins to write. It is called once.
func (r *Recorder) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	w := newWriter(r.opts, r.pacing)
	r.wg.Go(func() {
		defer w.client.close()
		w.run(ctx, r.queue)
	})
}

// Close ends the writing and waits for that; what still waits is not written. It
// may be called more than once.
func (r *Recorder) Close() {
	r.cancel()
	r.wg.Wait()
}

// Report hands an event on and, where it means trouble for its pod, has that
// written. It does not wait for anything.
func (r *Recorder) Report(event record.Event) {
	r.opts.Next.Report(event)
	t, ok := read(event)
	if !ok {
		return
	}
	select {
	case r.queue <- t:
	default:
		r.opts.Count(Dropped)
	}
}
