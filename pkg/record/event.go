// SPDX-License-Identifier: Apache-2.0

package record

import (
	"net/netip"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

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
	// KindAdopted: a sandbox that another process had pinned, mostly an earlier one, is
	// ours now with the record that it wrote. It tells of one sandbox; CauseTakeover is
	// that of a look at any that was there, with a record or without.
	KindAdopted Kind = "adopted"
	// KindReleased: a sandbox is gone and so is its record.
	KindReleased Kind = "released"
	// KindUnidentified: a namespace has no owner in the sandbox store.
	KindUnidentified Kind = "unidentified"
	// KindStore: the sandbox store went away, or some of its records cannot be
	// read (Err), or all is well again (nil).
	KindStore Kind = "store"
	// KindStoreless: the sandbox store has no record of a new sandbox, as that of
	// containerd 1.7 never has, so that only NRI tells of it; told once.
	KindStoreless Kind = "storeless"
	// KindRecord: a record could not be read, written or removed.
	KindRecord Kind = "record"
	// KindWithdrawn: a gateway lost its truth: our pin was taken back, or another
	// owner's entry differs from what the host says now.
	KindWithdrawn Kind = "withdrawn"
	// KindStale: what a runtime copied is not true any more, and nothing of ours
	// reaches it. KindFresh: it is true again.
	KindStale Kind = "stale"
	KindFresh Kind = "fresh"
	// KindInsists: somebody in the sandbox put another entry in the place of a pin
	// again and again; it keeps the table, and the gateway is dropped.
	KindInsists Kind = "insists"
	// KindConflict: more than one station claims a gateway that is learned by
	// asking. KindSilent: nobody has answered for one for a while.
	KindConflict Kind = "conflict"
	KindSilent   Kind = "silent"
	// KindRefused: a sandbox, or a container of it, may not start.
	KindRefused Kind = "refused"
	// KindHostState: others left something on the host for a sandbox's addresses,
	// which the record tells; or it could not be looked at, or the way back not be
	// set or taken away (Err).
	KindHostState Kind = "hostState"
	// KindHost: changes of the host's links cannot be heard (Err), so that only the slow
	// comparison finds what changes; or they are heard (again), and Err is nil.
	KindHost Kind = "host"
	// KindUnobserved: a sandbox cannot be observed; Err says why.
	KindUnobserved Kind = "unobserved"
)

// Event is something worth telling: to a log, a metric or an operator.
type Event struct {
	// Kind of the event.
	Kind Kind
	// Record is a copy of the sandbox's record, where one is concerned.
	Record Record
	// Changes are the gateways that the event is about, from KindWithdrawn to
	// KindSilent.
	Changes []Change
	// Cause is what led to the look that wrote pins, of KindRepinned and KindPinned;
	// of the latter it is CauseTakeover where the sandbox had started without them.
	Cause Cause
	// Found is what others had left on the host, of KindHostState where that was
	// looked for.
	Found *HostState
	// Path is the namespace's, for KindUnidentified.
	Path string
	// Err is what went wrong, if something did.
	Err error
}

// Cause is what led to a look at a sandbox.
type Cause string

// The causes.
const (
	// CauseStart: the sandbox was starting.
	CauseStart Cause = "start"
	// CauseEvent: the kernel told of a change, or the wire did.
	CauseEvent Cause = "event"
	// CauseLostEvents: events were lost, or one concerned many sandboxes.
	CauseLostEvents Cause = "lostEvents"
	// CauseComparison: the slow comparison of everything; no event had told.
	CauseComparison Cause = "comparison"
	// CauseTakeover: nobody had looked for a while, since there was no neighpin or
	// no connection to NRI.
	CauseTakeover Cause = "takeover"
)

// Causes lists all causes.
func Causes() []Cause {
	return []Cause{CauseStart, CauseEvent, CauseLostEvents, CauseComparison, CauseTakeover}
}

// Change is what happened to one gateway of a sandbox.
type Change struct {
	// Dst is the gateway, Dev the link inside the namespace.
	Dst netip.Addr
	Dev string
	// Was is the link-layer address that was pinned or copied, Now the true one;
	// empty when there was none, or is none any more.
	Was, Now neighbor.HardwareAddr
	// Reason and Message say why there is no pin, where there is none.
	Reason  neighbor.Reason
	Message string
	// Claims are the stations that claim the gateway, of KindConflict.
	Claims []neighbor.HardwareAddr
}

// Reporter takes the engine's events. Report is called from several goroutines,
// in the way of the work: it must not block, and must not call the engine.
type Reporter interface {
	Report(Event)
}
