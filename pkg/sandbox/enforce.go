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
	return e.admitByID(ctx, id, false)
}

// AdmitContainer tells whether a container may start, after ContainerCreating.
// It is what AdmitSandbox is, for runtimes that leave a refused sandbox behind
// and for sandboxes that are refused since.
func (e *Engine) AdmitContainer(ctx context.Context, id string) error {
	return e.admitByID(ctx, id, true)
}

func (e *Engine) admitByID(ctx context.Context, id string, container bool) error {
	if !e.opts.Enforce {
		return nil
	}
	e.mu.Lock()
	s := e.sandboxes[id]
	e.mu.Unlock()
	if s == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, nriWait/2)
	defer cancel()
	return e.admit(ctx, s, container)
}

// admit decides whether a sandbox may start, or a container in it. Only a
// sandbox that was created while this or an earlier process watched is refused,
// and one that was admitted once stays so: what happens to its pins afterwards
// is drift, which is repaired or reported.
func (e *Engine) admit(ctx context.Context, s *sandbox, container bool) error {
	if s.admitted.isOpen() {
		return nil
	}
	if s.record().Refused == "" && (s.adopted || s.loaded) {
		return nil
	}
	if container || s.id.Stack() == record.StackTaken && !s.ahead.isOpen() {
		// The runtime has the sandbox, or its stack is the kernel's and can be
		// asked now: the verdict is a matter of moments.
		within(ctx, s.done.opened())
	}
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
	err := &RefusedError{Namespace: rec.Namespace, Name: rec.Name, ID: rec.ID, Why: why, Container: container}
	if changed {
		e.report(record.Event{Kind: record.KindRefused, Record: rec, Err: err})
	}
	return err
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
