// SPDX-License-Identifier: Apache-2.0

package record

import (
	"strconv"
	"strings"
	"time"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// NetNS names a network namespace.
type NetNS struct {
	// Path is where it was found; Cookie is what it is (SO_NETNS_COOKIE).
	Path   string `json:"path"`
	Cookie uint64 `json:"cookie"`
}

// Record is what is known of one selected sandbox: its file under the state
// directory and its part of the status.
type Record struct {
	// Version of the file's format.
	Version int `json:"version"`
	// ID is the sandbox's; Name, Namespace and UID are the pod's.
	ID        string `json:"id"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
	// Handler and Runtime as in [Identity].
	Handler string `json:"handler"`
	Runtime string `json:"runtime,omitempty"`
	// NetNS is the sandbox's network namespace.
	NetNS NetNS `json:"netns"`
	// Phase says how far the sandbox has come.
	Phase Phase `json:"phase"`
	// Neighbors are the pins, and the permanent entries of other owners that
	// serve as such; those that are not of source "existing" are ours.
	Neighbors []neighbor.Neighbor `json:"neighbors"`
	// Skipped are the gateways that are not pinned, with the reason.
	Skipped []neighbor.Skipped `json:"skipped"`
	// Vacant are those of Skipped in whose place nobody had an entry when the
	// sandbox began to run: what somebody puts there later is drift.
	Vacant []neighbor.Gateway `json:"vacant,omitempty"`
	// Stale are the copies that a runtime took and that are not true any more;
	// Neighbors then has what is true now, if anything.
	Stale []Stale `json:"stale,omitempty"`
	// Doubts are what asking on the wire found wrong with gateways of source
	// "learned".
	Doubts []Doubt `json:"doubts,omitempty"`
	// Probes are the questions by which gateways of source "learned" are asked
	// for, and those to which nobody has answered yet.
	Probes []neighbor.Ask `json:"probes,omitempty"`
	// Ends are the numbers of the other ends of the sandbox's links, on the host,
	// by the names of these: a program can take a link into a namespace of its own.
	Ends map[string]int `json:"ends,omitempty"`
	// Addresses are the sandbox's own, as they were when it was first pinned.
	Addresses []neighbor.Address `json:"addresses,omitempty"`
	// HostState is what others had left on the host for them.
	HostState *HostState `json:"hostState,omitempty"`
	// ReturnPath are the entries on the host by which it answers the pod without
	// asking for it; those that are not of source "existing" are ours.
	ReturnPath []hoststate.Entry `json:"returnPath,omitempty"`
	// CapturedAt is when Neighbors and Skipped came to be what they are.
	CapturedAt time.Time `json:"capturedAt,omitzero"`
	// Taken tells that the runtime was seen to take the namespace's addresses into
	// a network stack of its own: from then on nothing is missing in the namespace.
	Taken bool `json:"taken,omitempty"`
	// Timing is the proof of time.
	Timing Timing `json:"timing"`
	// Repins counts how often lost pins were written again.
	Repins int `json:"repins"`
	// Missed counts what the slow comparison found that no event had announced.
	Missed int `json:"missed,omitempty"`
	// Annotated tells that containers of the sandbox get the annotation.
	Annotated bool `json:"annotated"`
	// LiveFile tells that containers of the sandbox see what is pinned in a file.
	LiveFile bool `json:"liveFile,omitempty"`
	// Refused is why the sandbox may not start; empty when it may, or when that
	// is not asked for.
	Refused string `json:"refused,omitempty"`
	// Observed is what the sandbox asked for, where that is observed; not kept on
	// disk.
	Observed *Observed `json:"observed,omitempty"`
	// Error is the last failure that left the sandbox without its pins.
	Error string `json:"error,omitempty"`
	// History is what happened to the sandbox, in the order of time; it is bounded.
	// Of two processes that serve one node, the file has that of the last to write.
	History []Moment `json:"history,omitempty"`
}

// Owned are the neighbors that neighpin itself wrote.
func (r Record) Owned() []neighbor.Neighbor {
	var owned []neighbor.Neighbor
	for _, n := range r.Neighbors {
		if n.Source != neighbor.SourceExisting {
			owned = append(owned, n)
		}
	}
	return owned
}

// Foreign are the permanent entries of other owners.
func (r Record) Foreign() []neighbor.Neighbor {
	var foreign []neighbor.Neighbor
	for _, n := range r.Neighbors {
		if n.Source == neighbor.SourceExisting {
			foreign = append(foreign, n)
		}
	}
	return foreign
}

// ByHandID is the id of the record of a namespace that "neighpin pin" pinned.
func ByHandID(cookie uint64) string { return byHandPrefix + strconv.FormatUint(cookie, 10) }

const byHandPrefix = "netns-"

// ByHand tells whether the record is of a namespace that "neighpin pin" pinned.
func (r Record) ByHand() bool { return strings.HasPrefix(r.ID, byHandPrefix) }

// Annotation is the record's content for the sandbox's containers; empty when
// they get none, or when the sandbox has not been looked at in time. A sandbox
// with nothing to pin has an annotation that says so.
func (r Record) Annotation() (string, error) {
	if !r.Annotated {
		return "", nil
	}
	return r.annotation()
}

// annotation is Annotation for every sandbox, whether its containers get it or
// not.
func (r Record) annotation() (string, error) {
	if r.CapturedAt.IsZero() {
		return "", nil
	}
	a := annotation.Annotation{Cookie: r.NetNS.Cookie, CapturedAt: r.CapturedAt}
	for _, n := range r.Neighbors {
		a.Neighbors = append(a.Neighbors, annotation.Entry{
			Dst: n.Dst, Dev: n.Dev, LLAddr: annotation.HardwareAddr(n.LLAddr), Source: annotation.Source(n.Source),
		})
	}
	return a.Marshal()
}
