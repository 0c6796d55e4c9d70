// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// silence is how long nobody may answer for a pinned gateway until that is told.
const silence = 30 * time.Second

// heard is what asking for the gateways of one sandbox has come to.
type heard struct {
	on        bool                // it is asked for
	addresses []neighbor.Neighbor // those that are pinned among them
	doubts    []record.Doubt
	failure   string // why asking fails, if it does
}

// learned judges what has been heard of a sandbox's gateways.
func (e *Engine) learned(s *sandbox) heard {
	if !e.opts.Learn {
		return heard{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	learned, doubts := judge(s.now(), s.heard, time.Now())
	return heard{on: true, addresses: learned, doubts: doubts, failure: s.askError}
}

// settle says, of a sandbox's gateways as they are now, what is to be asked on,
// what speaks against some of them, and why others are skipped. unknown are those
// to ask for beside those that were learned.
func (h heard) settle(before record.Record, neighbors []neighbor.Neighbor, skipped []neighbor.Skipped, unknown []neighbor.Ask) (asks []neighbor.Ask, doubts []record.Doubt, why []neighbor.Skipped) {
	if !h.on {
		return nil, nil, skipped
	}
	asks = goOn(before, neighbors, unknown)
	doubts = about(h.doubts, asks)
	return asks, doubts, explain(skipped, doubts)
}

// judge says what answers mean. One that agrees is the gateway's address, and two
// that conflict leave a pin as it is, as silence does.
func judge(r record.Record, heard map[neighbor.Gateway]hearing, now time.Time) (learned []neighbor.Neighbor, doubts []record.Doubt) {
	for _, n := range r.Neighbors {
		if n.Source == neighbor.SourceLearned {
			learned = append(learned, n)
		}
	}
	for _, ask := range r.Probes {
		key := ask.Gateway()
		pinned := slices.IndexFunc(learned, func(n neighbor.Neighbor) bool { return n.Gateway() == key })
		old := slices.IndexFunc(r.Doubts, func(d record.Doubt) bool { return d.Gateway() == key })
		h, ok := heard[key]
		doubt := record.Doubt{Dst: ask.Dst, Dev: ask.Dev, Since: now.UTC()}
		switch {
		case h.Agreed && pinned >= 0:
			learned[pinned].LLAddr = h.LLAddrs[0]
			continue
		case h.Agreed:
			learned = append(learned, neighbor.Neighbor{Dst: ask.Dst, Dev: ask.Dev, LLAddr: h.LLAddrs[0],
				Family: neighbor.FamilyOf(ask.Dst), Source: neighbor.SourceLearned})
			continue
		case len(h.LLAddrs) > 1:
			doubt.Reason, doubt.Claims = record.ReasonConflict, h.LLAddrs
		case ok && len(h.LLAddrs) == 0 && (pinned < 0 || now.Sub(h.since) >= silence):
			doubt.Reason = record.ReasonNoAnswer
		case old >= 0: // nothing new
			doubt = r.Doubts[old]
		default:
			continue
		}
		if old >= 0 && r.Doubts[old].Reason == doubt.Reason {
			doubt.Since = r.Doubts[old].Since
		}
		doubts = append(doubts, doubt)
	}
	return learned, doubts
}

// goOn are the questions to go on with: for gateways that were learned, and for
// those that nobody answered for.
func goOn(r record.Record, neighbors []neighbor.Neighbor, unknown []neighbor.Ask) (list []neighbor.Ask) {
	for _, ask := range r.Probes {
		if slices.ContainsFunc(neighbors, func(n neighbor.Neighbor) bool {
			return n.Source == neighbor.SourceLearned && n.Gateway() == ask.Gateway()
		}) {
			list = append(list, ask)
		}
	}
	return append(list, unknown...)
}

// about leaves of doubts those that are about questions.
func about(doubts []record.Doubt, asks []neighbor.Ask) []record.Doubt {
	return slices.DeleteFunc(doubts, func(d record.Doubt) bool {
		return !slices.ContainsFunc(asks, func(a neighbor.Ask) bool { return a.Gateway() == d.Gateway() })
	})
}

// explain names, for gateways that were asked for in vain, what came of it.
func explain(skipped []neighbor.Skipped, doubts []record.Doubt) []neighbor.Skipped {
	skipped = slices.Clone(skipped)
	for i, s := range skipped {
		for _, d := range doubts {
			if d.Gateway() != s.Gateway() || !s.Reason.Learnable() {
				continue
			}
			skipped[i].Reason = d.Reason
			skipped[i].Message = fmt.Sprintf("nobody answers for it on the wire (%s)", s.Message)
			if d.Reason == record.ReasonConflict {
				skipped[i].Message = fmt.Sprintf("several stations claim it on the wire: %v (%s)", d.Claims, s.Message)
			}
		}
	}
	return skipped
}

// tellHeard notes and reports what asking found since a record looked like before.
func (e *Engine) tellHeard(s *sandbox, before record.Record) {
	events := heardSince(before, s.record())
	s.noteEvents(events)
	e.reportEach(s, events)
}

// heardSince is what asking found between two looks of a record.
func heardSince(before, rec record.Record) (events []record.Event) {
	if rec.Error != "" && rec.Error != before.Error {
		events = append(events, record.Event{Kind: record.KindFailed, Err: errors.New(rec.Error)})
	}
	var conflicts, silent []record.Change
	for _, d := range rec.Doubts {
		if slices.ContainsFunc(before.Doubts, func(o record.Doubt) bool { return o.Same(d) }) {
			continue
		}
		change := record.Change{Dst: d.Dst, Dev: d.Dev, Reason: d.Reason, Claims: d.Claims}
		i := slices.IndexFunc(rec.Neighbors, func(n neighbor.Neighbor) bool { return n.Gateway() == d.Gateway() })
		if i >= 0 {
			change.Was = rec.Neighbors[i].LLAddr
		}
		switch {
		case d.Reason == record.ReasonConflict:
			conflicts = append(conflicts, change)
		case i >= 0: // one that was never answered for is skipped, with the reason
			silent = append(silent, change)
		}
	}
	if len(conflicts) > 0 {
		events = append(events, record.Event{Kind: record.KindConflict, Changes: conflicts})
	}
	if len(silent) > 0 {
		events = append(events, record.Event{Kind: record.KindSilent, Changes: silent})
	}
	return events
}
