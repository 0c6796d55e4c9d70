// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"slices"
	"time"

	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/probe"
	"github.com/neighpin/neighpin/pkg/record"
)

const (
	// askTimeout is how long an answer is waited for. The first ones of a sandbox may
	// take longer, since more depends on them.
	askTimeout      = 400 * time.Millisecond
	firstAskTimeout = nriWait - 100*time.Millisecond
)

// hearing is what was heard of one gateway.
type hearing struct {
	probe.Answer
	since time.Time // when nobody answered first, if nobody does
}

// Ask asks for the sandbox's gateways, see [guard.Asker].
func (s *sandbox) Ask() (news bool) {
	rec := s.record()
	answers, err := s.engine.ask(rec, s)
	if s.engine.ctx.Err() != nil {
		return false
	}
	return s.hear(rec.Probes, answers, err)
}

// ask puts a record's questions in the sandbox's namespace.
func (e *Engine) ask(rec record.Record, s *sandbox) ([]probe.Answer, error) {
	timeout := askTimeout
	if s.Questions().Unheard {
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

// Questions says what there is to ask, see [guard.Asker].
func (s *sandbox) Questions() (q guard.Questions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ask := range s.now().Probes {
		if !askable(ask) {
			continue
		}
		h, heard := s.heard[ask.Gateway()]
		q.Any, q.First, q.Unheard = true, q.First || !heard || h.Ask != ask, q.Unheard || !heard
	}
	return q
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
