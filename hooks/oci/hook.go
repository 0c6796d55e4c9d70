// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"

	"github.com/neighpin/neighpin/pkg/annotation"
)

// statusStopped is a container's status at the stage poststop.
const statusStopped = "stopped"

// Hook is a hook of the stage createRuntime: the container's namespaces are
// there, its program is not. It pins in the container's network namespace. For a
// gateway that the host knows nothing about, as in a namespace that was made
// inside a pod, it takes what the annotation in the bundle says. At the stage
// poststop it forgets the container.
//
// It returns the exit code. One that is not 0 stops the container, so without
// Options.Enforce only a call by hand gets it.
func Hook(p Process, o Options) int {
	o.Annotate = false // the runtime has read its configuration
	w := &worker{Options: o, say: teller{stderr: p.Stderr}}
	s, err := readState(p.Stdin)
	if errors.Is(err, errByHand) {
		w.say.refuse(err)
		return exitUsage
	}
	if err == nil {
		err = w.hook(s)
	}
	switch {
	case err == nil:
		return exitOK
	case w.Enforce:
		w.say.refuse(err)
		return exitError
	}
	w.say.warn("%v", err)
	return exitOK
}

func (w *worker) hook(s state) error {
	if s.Status == statusStopped {
		if err := w.forget(s.ID); err != nil {
			w.say.warn("%v", err)
		}
		return nil
	}
	ctx, cancel := limited()
	defer cancel()
	b, err := readBundle(s.Bundle)
	if err != nil {
		return err
	}
	if b.excluded(w.ExcludeNamespaces) {
		return nil
	}
	kind, path, err := b.network()
	switch {
	case err != nil || kind == networkHost:
		return err
	case kind == networkMade:
		if path, err = s.namespace(); err != nil {
			return err
		}
	}
	if err := w.ready(); err != nil {
		return err
	}
	defer w.close()
	_, err = w.attend(ctx, subject{id: s.ID, path: path, spec: &b.spec}, w.handedOn(b))
	return err
}

// handedOn is the annotation that the bundle brings, nil if it has none. Where pods
// can write annotations, nothing is taken from there.
func (w *worker) handedOn(b *bundle) *annotation.Annotation {
	value := b.Annotations[annotation.Key]
	byContainerd, byCRIO := b.managed()
	if value == "" || byContainerd || byCRIO {
		return nil
	}
	a, err := annotation.Parse(value)
	if err != nil {
		w.say.warn("the bundle's annotation is not used: %v", err)
	}
	return a
}
