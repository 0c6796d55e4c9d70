// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// Reason is an Event's reason: what kind of trouble a pod has, for machines.
type Reason string

// The reasons.
const (
	// StaleNeighborCopy: the runtime holds a copy of a gateway's address that is
	// not true any more.
	StaleNeighborCopy Reason = "StaleNeighborCopy"
	// NeighborNotPinned: a gateway is not pinned, or was too late.
	NeighborNotPinned Reason = "NeighborNotPinned"
	// NeighborConflict: more than one station claims a gateway.
	NeighborConflict Reason = "NeighborConflict"
	// HostStateFound: others left something on the host for the pod's addresses.
	HostStateFound Reason = "HostStateFound"
	// SandboxRefused: the pod may not start.
	SandboxRefused Reason = "SandboxRefused"
	// NeighborInsists: a program in the pod keeps an entry of its own.
	NeighborInsists Reason = "NeighborInsists"
)

// maxMessage bounds an Event's message, in bytes: what the API server takes for
// Events of its newer group (k8s.io/kubernetes pkg/apis/core/validation,
// NoteLengthLimit).
const maxMessage = 1024

// pod is whom an Event is about.
type pod struct{ namespace, name, uid string }

// trouble is what one Event would say.
type trouble struct {
	pod     pod
	reason  Reason
	message string
}

// Names as the API server takes them. They come from the runtime, which has them
// from the API server, except where a pod was made by hand.
var (
	namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	podName       = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
	podUID        = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
)

// known tells whether the pod is one that the API server can know.
func (p pod) known() bool {
	return namespaceName.MatchString(p.namespace) && podName.MatchString(p.name) && podUID.MatchString(p.uid)
}

// read says what an event of the engine means for its pod, if that is trouble.
func read(event record.Event) (trouble, bool) {
	rec := event.Record
	t := trouble{pod: pod{namespace: rec.Namespace, name: rec.Name, uid: rec.UID}}
	t.reason, t.message = judge(event)
	if t.reason == "" || !t.pod.known() {
		return trouble{}, false
	}
	t.message = clean(t.message, maxMessage)
	return t, true
}

// judge finds the reason and the words; no reason where there is no trouble, or
// none that concerns the pod.
func judge(event record.Event) (Reason, string) {
	switch event.Kind {
	case record.KindStale:
		return StaleNeighborCopy, each(event.Changes, stale) + ". Nothing reaches the copy: delete the pod, so that a new one starts with the true address"
	case record.KindTiming:
		return started(event.Record)
	case record.KindFailed:
		return NeighborNotPinned, fmt.Sprintf("the gateways could not be pinned: %v", event.Err)
	case record.KindWithdrawn:
		lost := make([]record.Change, 0, len(event.Changes))
		for _, c := range event.Changes {
			if c.Reason.NoTruth() {
				lost = append(lost, c)
			}
		}
		if len(lost) == 0 {
			return "", "" // there is nothing to pin any more
		}
		return NeighborNotPinned, each(lost, withdrawn)
	case record.KindConflict:
		return NeighborConflict, each(event.Changes, conflict)
	case record.KindInsists:
		return NeighborInsists, each(event.Changes, insists)
	case record.KindHostState:
		return left(event.Found)
	case record.KindRefused:
		if event.Err != nil {
			return SandboxRefused, event.Err.Error()
		}
		return SandboxRefused, event.Record.Refused
	}
	return "", ""
}

func each[T any](list []T, say func(T) string) string {
	lines := make([]string, len(list))
	for i, item := range list {
		lines[i] = say(item)
	}
	return strings.Join(lines, "; ")
}

func stale(c record.Change) string {
	if c.Now == "" {
		return fmt.Sprintf("gateway %s on %s: the runtime copied the address %s, which is not true any more (%s)", c.Dst, c.Dev, c.Was, c.Reason)
	}
	return fmt.Sprintf("gateway %s on %s: the runtime copied the address %s, and it is %s now", c.Dst, c.Dev, c.Was, c.Now)
}

func withdrawn(c record.Change) string {
	return fmt.Sprintf("gateway %s on %s is not pinned any more: %s (%s)", c.Dst, c.Dev, c.Reason, c.Message)
}

func conflict(c record.Change) string {
	kept := "it is not pinned"
	if c.Was != "" {
		kept = fmt.Sprintf("it stays pinned to %s", c.Was)
	}
	return fmt.Sprintf("gateway %s on %s: %s answer for it; %s", c.Dst, c.Dev, each(c.Claims, func(a neighbor.HardwareAddr) string { return string(a) }), kept)
}

func insists(c record.Change) string {
	return fmt.Sprintf("gateway %s on %s: a program in the pod keeps putting another entry in the place of %s; it is left alone and not annotated", c.Dst, c.Dev, c.Was)
}

// started tells of a sandbox that started without its pins, or without all.
func started(rec record.Record) (Reason, string) {
	if rec.Timing.Verdict == record.Late {
		return NeighborNotPinned, "the sandbox started before its gateways were pinned: it has to ask for them on the wire"
	}
	var open []neighbor.Skipped
	for _, s := range rec.Skipped {
		if s.Reason.NoTruth() {
			open = append(open, s)
		}
	}
	if len(open) == 0 {
		return "", ""
	}
	return NeighborNotPinned, each(open, func(s neighbor.Skipped) string {
		return fmt.Sprintf("gateway %s on %s is not pinned: %s (%s)", s.Dst, s.Dev, s.Reason, s.Message)
	})
}

// left tells of what was found on the host.
func left(found *record.HostState) (Reason, string) {
	if found == nil || len(found.Finds) == 0 {
		return "", ""
	}
	return HostStateFound, "the host leads what is for the pod's addresses to nobody: " + each(found.Finds, func(f hoststate.Find) string {
		if f.Removed {
			return f.String() + " (removed)"
		}
		return f.String()
	})
}

// clean makes text fit for an Event: printable, on one line, and bounded. Names of
// links, and what rules on the host say, are other people's words.
func clean(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
	if len(text) <= limit {
		return text
	}
	const more = "…"
	end := limit - len(more)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}
