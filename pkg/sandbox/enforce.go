// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"

	"github.com/neighpin/neighpin/pkg/record"
)

// RefusedError says why a sandbox, or a container of it, must not start: its
// gateways are not pinned, and Options.Enforce asks for that.
type RefusedError struct {
	// Namespace and Name are the pod's, ID is the sandbox's.
	Namespace, Name, ID string
	// Why names the gateway and the reason.
	Why string
	// Container tells that a container is refused, not the sandbox: it cannot
	// start in this sandbox, whoever tries again.
	Container bool
}

// Error names the pod and, where only that helps, says to delete it.
func (e *RefusedError) Error() string {
	if e.Container {
		return fmt.Sprintf("neighpin refuses containers of pod %s/%s: %s; delete the pod, so that it starts in a new sandbox", e.Namespace, e.Name, e.Why)
	}
	return fmt.Sprintf("neighpin refuses pod %s/%s: %s", e.Namespace, e.Name, e.Why)
}

// AdmitSandbox tells whether a sandbox may start, after SandboxStarted: nil or a
// *RefusedError, and nil always without Options.Enforce. It may wait for the
// proof of time, for at most half a second.
func (e *Engine) AdmitSandbox(ctx context.Context, id string) error {
	s := e.refusable(id)
	if s == nil {
		return nil
	}
	if s.id.Stack() == record.StackTaken && !s.ahead.isOpen() {
		awaitVerdict(ctx, s)
	}
	return e.admit(s, RefusedError{})
}

// AdmitContainer tells whether a container may start, after ContainerCreating.
// It is what AdmitSandbox is, for runtimes that leave a refused sandbox behind
// and for sandboxes that are refused since.
func (e *Engine) AdmitContainer(ctx context.Context, id string) error {
	s := e.refusable(id)
	if s == nil {
		return nil
	}
	awaitVerdict(ctx, s)
	return e.admit(s, RefusedError{Container: true})
}

// refusable returns a sandbox that may be refused; nil for any other. Only one that was
// created while this or an earlier process watched may be, and one that was admitted
// once stays so: what happens to its pins afterwards is drift, which is repaired or
// reported.
func (e *Engine) refusable(id string) *sandbox {
	if !e.opts.Enforce {
		return nil
	}
	e.mu.Lock()
	s := e.sandboxes[id]
	e.mu.Unlock()
	if s == nil || s.admitted.isOpen() || s.record().Refused == "" && (s.takenOver || s.loaded) {
		return nil
	}
	return s
}

// awaitVerdict waits for the verdict where that is a matter of moments: the runtime has
// the sandbox, or its stack is the kernel's and can be asked now.
func awaitVerdict(ctx context.Context, s *sandbox) {
	ctx, cancel := context.WithTimeout(ctx, nriWait/2)
	defer cancel()
	within(ctx, s.done.opened())
}

// admit decides about a sandbox, or a container in it. Where it may not start, refusal
// is filled in and returned.
func (e *Engine) admit(s *sandbox, refusal RefusedError) error {
	why, changed := "", false
	s.update(func(r *record.Record) { // in one go: another may be asked about at this moment
		if s.admitted.isOpen() {
			return
		}
		if why = unpinned(*r); why == "" {
			s.admitted.open()
		}
		if changed = r.Refused != why; changed && why != "" {
			r.Note(record.KindRefused, "%s", why)
		}
		r.Refused = why
	})
	if changed {
		e.save(s)
	}
	if why == "" {
		return nil
	}
	rec := s.record()
	refusal.Namespace, refusal.Name, refusal.ID, refusal.Why = rec.Namespace, rec.Name, rec.ID, why
	if changed {
		e.report(record.Event{Kind: record.KindRefused, Record: rec, Err: &refusal})
	}
	return &refusal
}

// unpinned says in which way a sandbox would start without its pins, or is empty.
// A sandbox with nothing to pin has all it can have.
func unpinned(r record.Record) string {
	for _, skipped := range r.Skipped {
		if skipped.Reason.NoTruth() {
			return fmt.Sprintf("gateway %s on %s is not pinned: %s (%s)", skipped.Dst, skipped.Dev, skipped.Reason, skipped.Message)
		}
	}
	switch {
	case r.Error != "":
		return r.Error
	case r.CapturedAt.IsZero():
		return "its gateways have not been looked at in time"
	case r.Timing.Verdict == record.Late:
		return "its runtime was quicker than the pins"
	}
	return ""
}
