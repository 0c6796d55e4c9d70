// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"path"

	"github.com/neighpin/neighpin/pkg/record"
)

// PinAnnotation is the pod annotation by which a pod asks to be pinned ("true")
// or to be left alone ("false").
const PinAnnotation = "neighpin.io/pin"

// AnnotationPolicy says which wishes of [PinAnnotation] are granted.
type AnnotationPolicy string

// The policies. A wish that is not granted is ignored, as is any value of the
// annotation but "true" and "false".
const (
	// AllowAnnotation grants both wishes.
	AllowAnnotation AnnotationPolicy = "allow"
	// OptInAnnotation grants "true" only.
	OptInAnnotation AnnotationPolicy = "optIn"
	// IgnoreAnnotation grants neither.
	IgnoreAnnotation AnnotationPolicy = "ignore"
)

// Selector decides which sandboxes are pinned and which of them are annotated.
// Its zero value selects nothing. It is safe for concurrent use.
type Selector struct {
	// Handlers are globs (path.Match) of runtime handlers whose pods are pinned.
	Handlers []string
	// Annotate are globs of the handlers whose containers get the annotation;
	// pods that opted in get it too.
	Annotate []string
	// PodAnnotations says whose wish counts.
	PodAnnotations AnnotationPolicy
	// ExcludeNamespaces are globs of Kubernetes namespaces whose pods are never
	// selected, whatever they wish.
	ExcludeNamespaces []string
}

// Selection is the answer of [Selector.Select].
type Selection struct {
	// Pin tells that the sandbox is to be pinned, Annotate that its containers
	// are to carry the annotation, File that they are to see the live file.
	Pin, Annotate, File bool
}

// Validate reports globs and policies that cannot be meant.
func (s Selector) Validate() error {
	for _, list := range []struct {
		key   string
		globs []string
	}{{"handlers", s.Handlers}, {"annotate", s.Annotate}, {"excludeNamespaces", s.ExcludeNamespaces}} {
		for _, glob := range list.globs {
			if _, err := path.Match(glob, ""); err != nil || glob == "" {
				return fmt.Errorf("%s: %q, want a glob such as runsc*", list.key, glob)
			}
		}
	}
	switch s.PodAnnotations {
	case AllowAnnotation, OptInAnnotation, IgnoreAnnotation:
		return nil
	}
	return fmt.Errorf("podAnnotations: %q, want %s, %s or %s",
		s.PodAnnotations, AllowAnnotation, OptInAnnotation, IgnoreAnnotation)
}

// Select decides about one sandbox. A pod on the host's network or in an excluded
// namespace is never selected. The live file is for pods that use the kernel's stack: a mount more
// than there was at the checkpoint keeps gVisor from restoring a container (gvisor
// runsc/specutils/restore.go, validateMounts; annotations other than its own may
// differ).
func (s Selector) Select(id record.Identity) Selection {
	if id.NetNSPath == "" || matches(s.ExcludeNamespaces, id.Namespace) {
		return Selection{}
	}
	handler := id.HandlerName()
	selected := Selection{Pin: matches(s.Handlers, handler), Annotate: matches(s.Annotate, handler)}
	optIn := s.PodAnnotations == AllowAnnotation || s.PodAnnotations == OptInAnnotation
	switch id.Annotations[PinAnnotation] {
	case "true":
		if optIn {
			// A pod that asks by name is asked for by its consumer, too.
			selected.Annotate = selected.Annotate || !selected.Pin
			selected.Pin = true
		}
	case "false":
		if s.PodAnnotations == AllowAnnotation {
			return Selection{}
		}
	}
	selected.Annotate = selected.Annotate && selected.Pin
	selected.File = selected.Pin && optIn && id.Annotations[FileAnnotation] == "true" && id.Stack() == record.StackKernel
	return selected
}

func matches(globs []string, name string) bool {
	for _, glob := range globs {
		if ok, err := path.Match(glob, name); ok && err == nil {
			return true
		}
	}
	return false
}
