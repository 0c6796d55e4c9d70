// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/probe"
	"github.com/neighpin/neighpin/pkg/record"
)

const (
	// askers ask at once; a question that is answered takes some forty
	// milliseconds, one that is not askTimeout. The first ones of a sandbox may
	// take longer, since more depends on them.
	askers          = 8
	askTimeout      = 400 * time.Millisecond
	firstAskTimeout = nriWait - 100*time.Millisecond
	// silence is how long nobody may answer for a pinned gateway until that is
	// told.
	silence = 30 * time.Second
)

// asking is how a ward's gateways are asked for on the wire. The guard's mutex
// guards it.
type asking struct {
	timer *time.Timer // until the next time, or nil
	soon  bool        // the timer is that of a first question
	busy  bool        // an asker has it, or is to have it
}

// hearing is what was heard of one gateway.
type hearing struct {
	probe.Answer
	since time.Time // when nobody answered first, if nobody does
}

// scheduleAsk has a ward's gateways asked for: at once if one of them never was,
// else when the interval is over.
func (g *guard) scheduleAsk(w *ward) {
	if !g.engine.opts.Learn || g.closed || w.asking.busy || g.wards[w.sandbox] != w {
		return
	}
	first, any := w.sandbox.toAsk()
	if timer := w.asking.timer; timer != nil {
		if any && (!first || w.asking.soon) {
			return
		}
		timer.Stop()
		w.asking.timer = nil
	}
	if !any {
		return
	}
	interval := g.engine.opts.LearnInterval
	if interval <= 0 {
		interval = DefaultLearnInterval
	}
	pause := jittered(interval)
	if first {
		pause = 0
	}
	var timer *time.Timer
	timer = time.AfterFunc(pause, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if w.asking.timer != timer || g.closed {
			return // stopped too late
		}
		w.asking.timer, w.asking.busy = nil, true
		if w.sandbox.unheard() { // one that begins does not wait for those that hear nothing
			g.asksNew = append(g.asksNew, w)
		} else {
			g.unasked = append(g.unasked, w)
		}
		g.askable.Signal()
	})
	w.asking.timer, w.asking.soon = timer, first
}

// ask asks for one ward after another until the end. It reads nothing of the
// namespace but the wire and changes nothing, so that it need not have the ward.
func (g *guard) ask() {
	for {
		w := g.nextToAsk()
		if w == nil {
			return
		}
		s := w.sandbox
		rec := s.record()
		answers, err := g.engine.ask(rec, s)
		if g.engine.ctx.Err() != nil {
			return
		}
		news := s.hear(rec.Probes, answers, err)
		g.mu.Lock()
		w.asking.busy = false
		if news {
			g.mark(w, event)
		}
		g.scheduleAsk(w)
		g.mu.Unlock()
	}
}

func (g *guard) nextToAsk() *ward {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		var w *ward
		switch {
		case g.closed:
			return nil
		case len(g.asksNew) > 0:
			w, g.asksNew = g.asksNew[0], g.asksNew[1:]
		case len(g.unasked) > 0:
			w, g.unasked = g.unasked[0], g.unasked[1:]
		default:
			g.askable.Wait()
			continue
		}
		if g.wards[w.sandbox] == w {
			return w
		}
	}
}

// ask puts a record's questions in the sandbox's namespace.
func (e *Engine) ask(rec record.Record, s *sandbox) ([]probe.Answer, error) {
	timeout := askTimeout
	if s.unheard() {
		timeout = firstAskTimeout
	}
	ns, err := e.host.Open(rec.NetNS.Path)
	if err != nil {
		return nil, nil //nolint:nilerr // gone; its file's removal tells the rest
	}
	defer func() { _ = ns.Close() }()
	if ns.Cookie() != rec.NetNS.Cookie {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(e.ctx, 2*timeout)
	defer cancel()
	return e.probe(ctx, ns, rec.Probes, probe.Options{Timeout: timeout})
}

// toAsk tells whether there are gateways to ask for, and whether one of them was
// never asked for, or not from the address that is there now.
func (s *sandbox) toAsk() (first, any bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ask := range s.now().Probes {
		h, ok := s.heard[ask.Gateway()]
		first, any = first || askable(ask) && (!ok || h.Ask != ask), any || askable(ask)
	}
	return first, any
}

// unheard tells whether one of the gateways was never asked for. A pod can give its
// link another address again and again, each of which is worth a question at once,
// but not at the cost of others.
func (s *sandbox) unheard() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.now().Probes, func(ask neighbor.Ask) bool {
		_, ok := s.heard[ask.Gateway()]
		return askable(ask) && !ok
	})
}

// askable tells whether a question can be put. IPv6 asks from no address that is
// still being made sure of; that it has been is an event, after which the sandbox
// is looked at again.
func askable(ask neighbor.Ask) bool { return ask.Dst.Is4() || ask.Src.IsValid() }

// hear takes what came of questions and reports whether that is news.
func (s *sandbox) hear(asked []neighbor.Ask, answers []probe.Answer, err error) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := errorText(err); text != s.askError {
		s.askError, news = text, true
	}
	now := time.Now()
	for _, ask := range asked {
		if !askable(ask) {
			continue
		}
		key := ask.Gateway()
		old, heard := s.heard[key]
		next := hearing{since: now, Answer: probe.Answer{Ask: ask}}
		if i := slices.IndexFunc(answers, func(a probe.Answer) bool { return a.Ask.Gateway() == key }); i >= 0 {
			next.Answer = answers[i]
		}
		if heard && len(old.LLAddrs) == 0 {
			next.since = old.since
		}
		if s.heard == nil {
			s.heard = make(map[neighbor.Gateway]hearing)
		}
		s.heard[key] = next
		news = news || !heard
	}
	rec := s.now()
	learned, doubts := judge(rec, s.heard, now)
	return news || !record.SameDoubts(rec.Doubts, doubts) || slices.ContainsFunc(learned, func(n neighbor.Neighbor) bool {
		return !slices.ContainsFunc(rec.Neighbors, func(o neighbor.Neighbor) bool { return o.Gateway() == n.Gateway() && o.LLAddr == n.LLAddr })
	})
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

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
