// SPDX-License-Identifier: Apache-2.0

package sandbox

// Kind says what an [Event] tells.
type Kind string

// The kinds of events.
const (
	// KindPinned: this process has looked at a sandbox for the first time and
	// pinned what it could; the record says what that was.
	KindPinned Kind = "pinned"
	// KindRepinned: lost or changed pins were written again.
	KindRepinned Kind = "repinned"
	// KindTiming: the verdict is in.
	KindTiming Kind = "timing"
	// KindFailed: a sandbox is not pinned as it should be; Err says why.
	KindFailed Kind = "failed"
	// KindAdopted: a sandbox that an earlier process had pinned was taken over.
	KindAdopted Kind = "adopted"
	// KindReleased: a sandbox is gone and so is its record.
	KindReleased Kind = "released"
	// KindUnidentified: a namespace has no owner in the sandbox store.
	KindUnidentified Kind = "unidentified"
	// KindStore: the sandbox store went away, or some of its records cannot be
	// read (Err), or all is well again (nil).
	KindStore Kind = "store"
	// KindState: a record could not be read, written or removed.
	KindState Kind = "state"
)

// Event is something worth telling: to a log, a metric or an operator.
type Event struct {
	// Kind of the event.
	Kind Kind
	// Record is a copy of the sandbox's record, where one is concerned.
	Record Record
	// Path is the namespace's, for KindUnidentified.
	Path string
	// Err is what went wrong, if something did.
	Err error
}

// Reporter takes the engine's events. Report is called from several goroutines,
// in the way of the work: it must not block, and must not call the engine.
type Reporter interface {
	Report(Event)
}
