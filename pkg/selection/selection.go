// SPDX-License-Identifier: Apache-2.0

// Package selection decides which pods are pinned, which of them get the annotation
// and which the live file: by their runtime handler, their Kubernetes namespace, and
// what they ask for. It is pure: it is told of a pod, and asks nobody.
package selection

import (
	"fmt"
	"path"

	"github.com/neighpin/neighpin/pkg/record"
)

// PinAnnotation is the pod annotation by which a pod asks to be pinned ("true")
// or to be left alone ("false").
const PinAnnotation = "neighpin.io/pin"

// FileAnnotation is the pod annotation by which a pod asks for the live file
// ("true"). [Rules.Select] says when it is granted.
const FileAnnotation = "neighpin.io/file"

// Policy says which wishes of [PinAnnotation] are granted.
type Policy string

// The policies. A wish that is not granted is ignored, as is any value of the
// annotation but "true" and "false".
const (
	// Allow grants both wishes.
	Allow Policy = "allow"
	// OptIn grants "true" only.
	OptIn Policy = "optIn"
	// Ignore grants neither.
	Ignore Policy = "ignore"
)

// Rules say which sandboxes are pinned and which of them are annotated.
// Their zero value selects nothing. They are safe for concurrent use.
type Rules struct {
	// Handlers are globs (path.Match) of runtime handlers whose pods are pinned.
	Handlers []string
	// Annotate are globs of the handlers whose containers get the annotation;
	// pods that opted in get it too.
	Annotate []string
	// PodAnnotations says whose wish counts.
	PodAnnotations Policy
	// ExcludeNamespaces are globs of Kubernetes namespaces whose pods are never
	// selected, whatever they wish.
	ExcludeNamespaces []string
}

// Choice is the answer of [Rules.Select].
type Choice struct {
	// Pin tells that the sandbox is to be pinned, Annotate that its containers
	// are to carry the annotation, File that they are to see the live file.
	Pin, Annotate, File bool
}

// Validate reports globs and policies that cannot be meant.
func (r Rules) Validate() error {
	for _, list := range []struct {
		key   string
		globs []string
	}{{"handlers", r.Handlers}, {"annotate", r.Annotate}, {"excludeNamespaces", r.ExcludeNamespaces}} {
		if err := ValidateGlobs(list.globs); err != nil {
			return fmt.Errorf("%s: %w", list.key, err)
		}
	}
	switch r.PodAnnotations {
	case Allow, OptIn, Ignore:
		return nil
	}
	return fmt.Errorf("podAnnotations: %q, want %s, %s or %s",
		r.PodAnnotations, Allow, OptIn, Ignore)
}

// Select decides about one sandbox. A pod on the host's network or in an excluded
// namespace is never selected. The live file is for pods that use the kernel's stack: a mount more
// than there was at the checkpoint keeps gVisor from restoring a container (gvisor
// runsc/specutils/restore.go, validateMounts; annotations other than its own may
// differ).
func (r Rules) Select(id record.Identity) Choice {
	if id.NetNSPath == "" || Matches(r.ExcludeNamespaces, id.Namespace) {
		return Choice{}
	}
	handler := id.HandlerName()
	selected := Choice{Pin: Matches(r.Handlers, handler), Annotate: Matches(r.Annotate, handler)}
	optIn := r.PodAnnotations == Allow || r.PodAnnotations == OptIn
	switch id.Annotations[PinAnnotation] {
	case "true":
		if optIn {
			// A pod that asks by name is asked for by its consumer, too.
			selected.Annotate = selected.Annotate || !selected.Pin
			selected.Pin = true
		}
	case "false":
		if r.PodAnnotations == Allow {
			return Choice{}
		}
	}
	selected.Annotate = selected.Annotate && selected.Pin
	selected.File = selected.Pin && optIn && id.Annotations[FileAnnotation] == "true" && id.Stack() == record.StackKernel
	return selected
}

// ValidateGlobs reports a glob that cannot be meant.
func ValidateGlobs(globs []string) error {
	for _, glob := range globs {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return fmt.Errorf("%q, want a glob such as runsc*", glob)
		}
	}
	return nil
}

// Matches tells whether one of the globs (path.Match) is of the name.
func Matches(globs []string, name string) bool {
	for _, glob := range globs {
		if ok, err := path.Match(glob, name); ok && err == nil {
			return true
		}
	}
	return false
}
