// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"slices"
	"time"

	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// HostStatePolicy says what is done about what others left on the host for a
// sandbox's addresses.
type HostStatePolicy string

// The policies.
const (
	// HostStateOff: nobody looks.
	HostStateOff HostStatePolicy = "off"
	// HostStateReport: it is found and told.
	HostStateReport HostStatePolicy = "report"
	// HostStateClean: it is removed, too.
	HostStateClean HostStatePolicy = "clean"
)

const (
	// tendTimeout bounds what is done on the host for one sandbox.
	tendTimeout = 10 * time.Second
	// leaveTimeout bounds taking the way back away, which also a daemon that
	// stops still does.
	leaveTimeout = time.Second
	// tendPause is how long after a failure the next try comes, four times as long after
	// each failure more, and tendTries how many of these there are: what the kernel
	// refuses for good is not worth its locks.
	tendPause = 200 * time.Millisecond
	tendTries = 3
	// tenders work on the host at once, so that many starts do not crowd it.
	tenders = 4
)

// noteAddresses notes the addresses of a sandbox whose gateways are pinned, for what
// is done on the host for them: at once, before a runtime takes them. Of one that
// ran before its start was seen, they could be any: a pod that may administer its
// network gives itself what it likes.
func (l *life) noteAddresses(ctx context.Context) {
	e, s := l.engine, l.sandbox
	if !e.tends() || s.takenOver || len(s.record().Addresses) > 0 {
		return
	}
	addresses, err := l.table.Addresses(ctx, e.opts.MaxNeighbors)
	if err != nil {
		s.update(func(r *record.Record) { r.HostState = &record.HostState{At: time.Now().UTC(), Error: err.Error()} })
		e.report(record.Event{Kind: record.KindHostState, Record: s.record(), Err: err})
		return
	}
	if !slices.ContainsFunc(addresses, func(a neighbor.Address) bool { return !a.Addr.IsLinkLocalUnicast() }) {
		return // its runtime has just taken those that matter
	}
	s.update(func(r *record.Record) { r.Addresses = addresses })
}

// tends tells whether anything is done on the host.
func (e *Engine) tends() bool {
	return e.opts.ReturnPath || e.opts.HostState == HostStateReport || e.opts.HostState == HostStateClean
}

// tendLater has the host looked at for a sandbox, in nobody's way.
func (e *Engine) tendLater(s *sandbox) {
	rec := s.record()
	if !e.tends() || len(rec.Addresses) == 0 || rec.HostState != nil && !e.opts.ReturnPath {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tended {
		s.tendAgain = true
		return
	}
	s.tended = true
	e.wg.Go(func() { e.tend(s) })
}

// tend does what is to be done on the host for a sandbox, until nothing asks for it any more. It is
// the one goroutine of that sandbox's that does. What fails is told once and tried again a few times.
func (e *Engine) tend(s *sandbox) {
	for more := true; more && e.ctx.Err() == nil; {
		err := e.tendOnce(s)
		if err != nil && e.ctx.Err() == nil {
			e.report(record.Event{Kind: record.KindHostState, Record: s.record(), Err: err})
		}
		for try := 0; err != nil && try < tendTries; try++ {
			select {
			case <-time.After(tendPause << (2 * try)):
				err = e.tendOnce(s)
			case <-e.ctx.Done():
				return
			}
		}
		s.mu.Lock()
		more = s.tendAgain
		s.tended, s.tendAgain = more, false
		s.mu.Unlock()
	}
}

// tendOnce is one try. The host is looked at once in the sandbox's life; the way back
// is made right each time.
func (e *Engine) tendOnce(s *sandbox) (err error) {
	select {
	case e.tending <- struct{}{}:
	case <-e.ctx.Done():
		return nil
	}
	defer func() { <-e.tending }()
	s.host.Lock()
	defer s.host.Unlock()
	if s.left {
		return nil
	}
	ctx, cancel := context.WithTimeout(e.ctx, tendTimeout)
	defer cancel()
	changed := e.lookAround(ctx, s)
	if e.opts.ReturnPath {
		rec := s.record()
		var entries []hoststate.Entry
		entries, err = e.setReturnPath(ctx, rec.Addresses, rec.ReturnPath)
		if !slices.Equal(entries, rec.ReturnPath) {
			s.update(func(r *record.Record) { r.ReturnPath = entries })
			changed = true
		}
	}
	if changed {
		e.save(s)
	}
	return err
}

// lookAround looks for what others left, and tells.
func (e *Engine) lookAround(ctx context.Context, s *sandbox) (changed bool) {
	rec := s.record()
	look := hoststate.Look
	switch {
	case rec.HostState != nil:
		return false
	case e.opts.HostState == HostStateClean:
		look = hoststate.Clean
	case e.opts.HostState != HostStateReport:
		return false
	}
	report, err := look(ctx, rec.Addresses)
	if e.ctx.Err() != nil && len(report.Finds) == 0 {
		return false // stopping; the next process looks
	}
	state := &record.HostState{Report: report, At: time.Now().UTC()}
	if err != nil {
		state.Error = err.Error()
	}
	s.update(func(r *record.Record) {
		if r.HostState = state; len(report.Finds) > 0 {
			r.Note(record.KindHostState, "%d found on the host", len(report.Finds))
		}
	})
	if err != nil || len(report.Finds) > 0 {
		e.report(record.Event{Kind: record.KindHostState, Record: s.record(), Found: state, Err: err})
	}
	return true
}

// leave takes back what was done on the host for a sandbox that is gone.
func (e *Engine) leave(s *sandbox) {
	s.host.Lock()
	defer s.host.Unlock()
	s.left = true
	rec := s.record()
	if len(rec.ReturnPath) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), leaveTimeout)
	defer cancel()
	if _, err := hoststate.ReleaseReturnPath(ctx, rec.ReturnPath); err != nil {
		e.report(record.Event{Kind: record.KindHostState, Record: rec, Err: err})
	}
}

// follow follows the addresses of the links of a pod that uses the kernel's stack:
// one that gives its link another would not hear what comes the way back.
func (c *comparison) follow(ctx context.Context) error {
	if !c.engine.opts.ReturnPath || c.sandbox.id.Stack() != record.StackKernel || len(c.before.Addresses) == 0 {
		return nil
	}
	now, err := c.table.Addresses(ctx, c.engine.opts.MaxNeighbors)
	if err != nil {
		return err
	}
	followed := slices.Clone(c.before.Addresses)
	for i, known := range followed {
		at := slices.IndexFunc(now, func(a neighbor.Address) bool { return a.Addr == known.Addr && a.Dev == known.Dev && a.End == known.End })
		if at >= 0 {
			followed[i] = now[at]
		}
	}
	if !slices.Equal(followed, c.before.Addresses) {
		c.sandbox.update(func(r *record.Record) { r.Addresses = followed })
		c.engine.tendLater(c.sandbox)
	}
	return nil
}
