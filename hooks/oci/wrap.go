// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"fmt"
)

// Wrap stands in front of an OCI runtime. It pins what the command line is
// about, if it begins a container with a network namespace of its own, and
// becomes the real runtime: same arguments, environment and descriptors. So it
// returns only when there is no runtime to become, or under Options.Enforce when
// the container is refused; then it returns the exit code, and has told why where
// the runtime would have.
//
// The calling goroutine must be locked to its thread: that one becomes the
// runtime, and the work in the pod's namespace is then done by others.
func Wrap(p Process, o Options) int {
	c := parseArguments(p.Args)
	w := &worker{Options: o, say: c.teller(p.Stderr)}
	defer w.close()
	path, err := o.runtime(p.Env)
	if err != nil {
		w.say.refuse(err)
		return exitError
	}
	if err := w.prepare(c); err != nil {
		if w.Enforce || w.Fault != nil {
			w.say.refuse(err)
			return exitError
		}
		w.say.warn("%v", err)
	}
	// The real runtime's own name first: crun, for one, goes by it.
	err = p.Exec(path, append([]string{path}, p.Args...), p.Env)
	w.say.refuse(fmt.Errorf("execute real runtime %s: %w", path, err))
	return exitError
}

// prepare does what has to be done before the runtime runs.
func (w *worker) prepare(c call) error {
	ctx, cancel := limited()
	defer cancel()
	switch c.command {
	case cmdCreate, cmdRun, cmdRestore:
		if w.Fault != nil {
			return w.Fault
		}
	}
	switch c.command {
	case cmdCreate, cmdRun:
		return w.create(ctx, c)
	case cmdRestore:
		return w.restore(ctx, c)
	case cmdDelete:
		// The record lives as long as the container.
		if err := w.forget(c.id); err != nil {
			w.say.warn("%v", err)
		}
	}
	return nil
}

// create pins for a new container, and annotates its bundle.
func (w *worker) create(ctx context.Context, c call) error {
	b, err := readBundle(c.bundle)
	if err != nil {
		return err
	}
	s, ok, err := w.subject(c.id, &b.spec)
	if err != nil || !ok {
		return err
	}
	rec, err := w.attend(ctx, s, nil)
	if err != nil && w.Enforce || !w.Annotate {
		return err
	}
	value, fault := rec.Annotation()
	if fault == nil && value != "" {
		fault = b.annotate(value)
	}
	if fault != nil {
		// The pins stand, and most runtimes read no annotation.
		w.say.warn("%v", fault)
	}
	return err
}

// restore pins again, where a checkpoint goes on: what the container knew of its
// neighbors was true elsewhere, or before.
func (w *worker) restore(ctx context.Context, c call) error {
	found, err := readRestored(c)
	if err != nil {
		return err
	}
	s, ok, err := w.subject(c.id, found)
	if err != nil || !ok {
		return err
	}
	_, err = w.attend(ctx, s, nil)
	return err
}

// subject is false for a container that is left alone: one of an excluded namespace,
// or one that has no network namespace at a path, since it uses the host's network, or
// one that the runtime makes and somebody else connects later.
func (w *worker) subject(id string, of *spec) (subject, bool, error) {
	if of.excluded(w.ExcludeNamespaces) {
		return subject{}, false, nil
	}
	kind, path, err := of.network()
	if err != nil || kind != networkGiven {
		return subject{}, false, err
	}
	return subject{id: id, path: path, spec: of}, true, w.ready()
}
