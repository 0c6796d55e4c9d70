// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// recordVersion is the version of the files under the state directory.
const recordVersion = 1

// maxRecord bounds a record's file, in bytes: far above what the limit of
// neighbors allows, far below what could hurt.
const maxRecord = 4 << 20

// Phase says how far a sandbox has come.
type Phase string

// The phases.
const (
	// Starting: the runtime may not have read the namespace yet.
	Starting Phase = "starting"
	// Started: the runtime has it, or its first container has come.
	Started Phase = "started"
)

// Verdict says whether a sandbox began its life with its gateways pinned.
type Verdict string

// The verdicts, from the weakest to the strongest.
const (
	// Pending: not decided yet.
	Pending Verdict = "pending"
	// Nothing: the sandbox has no gateway that could be pinned.
	Nothing Verdict = "nothing"
	// Unproven: pinned, but nothing shows when the runtime read the namespace.
	Unproven Verdict = "unproven"
	// Late: the runtime was quicker, or a pin was missing when it came.
	Late Verdict = "late"
	// InTime: the kernel had acknowledged every pin, and none was lost,
	// before the runtime took the first address or, for pods that use the
	// kernel's stack, before the first container.
	InTime Verdict = "inTime"
)

var strength = map[Verdict]int{Pending: 0, Nothing: 1, Unproven: 2, Late: 3, InTime: 4}

// Timing is the proof of time of one sandbox.
type Timing struct {
	// Verdict is the outcome.
	Verdict Verdict `json:"verdict"`
	// MarginMs is the time, in milliseconds, from the kernel's last
	// acknowledgement to the moment that counts; only with InTime, and with
	// Late where both moments were seen (then it is negative).
	MarginMs float64 `json:"marginMs,omitempty"`
	// PinnedAt is when the kernel acknowledged the last pin.
	PinnedAt time.Time `json:"pinnedAt,omitzero"`
	// ResultToPinMs is the time, in milliseconds, from the last read of the
	// sandbox's record that had no CNI result to the acknowledgement: an upper
	// bound, as the result was written somewhen after that read.
	ResultToPinMs float64 `json:"resultToPinMs,omitempty"`
}

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

// capture takes over what was written. What is as it was keeps its time, and with
// it the annotation every byte.
func (r *Record) capture(written Written) {
	if r.CapturedAt.IsZero() || !equal(r.Neighbors, written.Neighbors, sameNeighbor) || !equal(r.Skipped, written.Skipped, sameSkipped) {
		r.CapturedAt = time.Now().UTC()
	}
	r.Neighbors, r.Skipped, r.Error = written.Neighbors, written.Skipped, ""
}

// leadTo notes where links lead to; what is known of links that are away stays.
func (r *Record) leadTo(ends map[string]int) {
	if maps.Equal(r.Ends, ends) || len(ends) == 0 {
		return
	}
	known := maps.Clone(r.Ends)
	if known == nil {
		known = make(map[string]int)
	}
	maps.Copy(known, ends)
	r.Ends = known
}

// takeFrom takes over what another record of the sandbox says was captured.
func (r *Record) takeFrom(old Record) {
	r.Neighbors, r.Skipped, r.CapturedAt, r.Timing = old.Neighbors, old.Skipped, old.CapturedAt, old.Timing
	r.Vacant, r.Stale, r.Doubts, r.Probes, r.Ends = old.Vacant, old.Stale, old.Doubts, old.Probes, old.Ends
	if len(old.Addresses) > 0 {
		r.Addresses, r.HostState, r.ReturnPath = old.Addresses, old.HostState, old.ReturnPath
	}
	r.Taken = r.Taken || old.Taken
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

func (r Record) byHand() bool { return strings.HasPrefix(r.ID, byHandPrefix) }

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

// errBroken says that a file holds no record.
var errBroken = errors.New("the file is broken")

// idPattern is what a sandbox's id may look like: it becomes a file's name.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

func decodeRecord(data []byte) (Record, error) {
	var rec Record
	if err := json.Unmarshal(data, &rec); err != nil {
		return Record{}, err
	}
	if rec.Version != recordVersion {
		return Record{}, fmt.Errorf("version %d, want %d", rec.Version, recordVersion)
	}
	if !idPattern.MatchString(rec.ID) {
		return Record{}, fmt.Errorf("id %.64q is no sandbox id", rec.ID)
	}
	if rec.NetNS.Cookie == 0 || !filepath.IsAbs(rec.NetNS.Path) {
		return Record{}, errors.New("no network namespace named")
	}
	rec.History = bounded(rec.History)
	return rec, nil
}
