// SPDX-License-Identifier: Apache-2.0

package record

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

const (
	// maxHistory bounds a sandbox's history, and keptHistory is how many of its
	// first moments stay when it is full: how a sandbox began is asked for longest,
	// and after that what happened last.
	maxHistory  = 16
	keptHistory = 6
	// maxMoment bounds the text of one moment, in bytes: records of ten thousand
	// sandboxes are in memory.
	maxMoment = 160
)

// KindFound is what a history begins with: the sandbox's namespace was opened. It
// is no event.
const KindFound Kind = "found"

// Moment is something that happened to a sandbox: an entry of its history.
type Moment struct {
	// At is when that was, to the millisecond; the last time, when it was several.
	At time.Time `json:"at"`
	// What is the kind of event, or KindFound.
	What Kind `json:"what"`
	// Text says more. It has names that come from the pod.
	Text string `json:"text,omitempty"`
	// Times is how often the same was noted in a row; zero stands for once.
	Times int `json:"times,omitempty"`
}

// Note adds a moment to the history, which stays short: what happens again and
// again is counted, and of what does not fit the middle goes.
func (r *Record) Note(what Kind, format string, args ...any) {
	m := Moment{At: time.Now().UTC().Truncate(time.Millisecond), What: what, Text: shorten(fmt.Sprintf(format, args...))}
	if i := len(r.History) - 1; i >= 0 && r.History[i].What == m.What && r.History[i].Text == m.Text {
		m.Times = max(r.History[i].Times, 1) + 1
		r.History = append(slices.Clone(r.History[:i]), m)
		return
	}
	history := make([]Moment, 0, len(r.History)+1)
	history = append(append(history, r.History...), m)
	r.History = bounded(history)
}

// Began is when the sandbox was first seen; zero where the record does not tell.
func (r Record) Began() time.Time {
	if len(r.History) > 0 {
		return r.History[0].At
	}
	return r.Timing.PinnedAt // by a release that kept no history
}

// bounded leaves the first moments of a history and the last.
func bounded(history []Moment) []Moment {
	if extra := len(history) - maxHistory; extra > 0 {
		return slices.Clone(slices.Delete(history, keptHistory, keptHistory+extra))
	}
	return history
}

// TakeHistory joins what another record of the sandbox tells of it.
func (r *Record) TakeHistory(old Record) {
	joined := slices.Clone(old.History)
	for _, m := range r.History {
		if !slices.ContainsFunc(joined, func(o Moment) bool { return o.What == m.What && o.Text == m.Text && o.At.Equal(m.At) }) {
			joined = append(joined, m)
		}
	}
	slices.SortStableFunc(joined, func(a, b Moment) int { return a.At.Compare(b.At) })
	r.History = bounded(joined)
}

// NoteEvent adds an event that is about gateways.
func (r *Record) NoteEvent(event Event) {
	switch {
	case len(event.Changes) > 0:
		r.Note(event.Kind, "%s", list(event.Changes, Change.text))
	case event.Err != nil:
		r.Note(event.Kind, "%v", event.Err)
	default:
		r.Note(event.Kind, "%s", r.pinned())
	}
}

// pinned says in short what is pinned and what is not.
func (r *Record) pinned() string {
	parts := []string{}
	if len(r.Neighbors) > 0 {
		parts = append(parts, list(r.Neighbors, func(n neighbor.Neighbor) string {
			return fmt.Sprintf("%s %s %s (%s)", n.Dst, n.Dev, n.LLAddr, n.Source)
		}))
	}
	if len(r.Skipped) > 0 {
		parts = append(parts, "not: "+list(r.Skipped, func(s neighbor.Skipped) string {
			return fmt.Sprintf("%s %s %s", s.Dst, s.Dev, s.Reason)
		}))
	}
	if len(parts) == 0 {
		return "nothing to pin"
	}
	return strings.Join(parts, "; ")
}

// list says the first of many.
func list[T any](items []T, say func(T) string) string {
	const shown = 3
	texts := []string{}
	for _, item := range items[:min(len(items), shown)] {
		texts = append(texts, say(item))
	}
	if more := len(items) - shown; more > 0 {
		texts = append(texts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(texts, ", ")
}

// text says what happened to one gateway.
func (c Change) text() string {
	text := fmt.Sprintf("%s %s", c.Dst, c.Dev)
	if c.Was != "" || c.Now != "" {
		text += fmt.Sprintf(" %s -> %s", cmp.Or(string(c.Was), "none"), cmp.Or(string(c.Now), "none"))
	}
	if c.Reason != "" {
		text += " " + string(c.Reason)
	}
	if len(c.Claims) > 0 {
		text += fmt.Sprintf(" %v", c.Claims)
	}
	return text
}

// shorten cuts a text that is too long, between characters.
func shorten(text string) string {
	text = strings.ToValidUTF8(text, "?") // which JSON would make of it
	if len(text) <= maxMoment {
		return text
	}
	return strings.ToValidUTF8(text[:maxMoment-3], "") + "..."
}
