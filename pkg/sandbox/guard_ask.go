// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
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
