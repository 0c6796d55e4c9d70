// SPDX-License-Identifier: Apache-2.0

package sandbox

// Kind says what an [Event] tells.
type Kind string

// The kinds of events.
const (
	// KindPinned: the gateways of a sandbox were pinned for the first time.
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
	// KindStore: the sandbox store went away (Err) or came back (nil).
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
// in the way of the work: it must not block.
type Reporter interface {
	Report(Event)
}
