// SPDX-License-Identifier: Apache-2.0

package sandbox

import "testing"

func TestSelect(t *testing.T) {
	defaults := Selector{
		Handlers:       []string{"runsc*", "gvisor*", "kata*"},
		Annotate:       []string{"runsc*", "gvisor*"},
		PodAnnotations: AllowAnnotation,
	}
	optIn, ignore := defaults, defaults
	optIn.PodAnnotations, ignore.PodAnnotations = OptInAnnotation, IgnoreAnnotation

	wish := func(value string) map[string]string { return map[string]string{PinAnnotation: value} }
	const netns = "/var/run/netns/cni-1"
	for name, tc := range map[string]struct {
		selector Selector
		id       Identity
		want     Selection
	}{
		"gVisor by handler":                   {defaults, Identity{Handler: "runsc", NetNSPath: netns}, Selection{true, true}},
		"Kata is pinned, not annotated":       {defaults, Identity{Handler: "kata-qemu", NetNSPath: netns}, Selection{true, false}},
		"runc by handler":                     {defaults, Identity{Handler: "runc", NetNSPath: netns}, Selection{}},
		"default runtime is gVisor":           {defaults, Identity{Runtime: "io.containerd.runsc.v1", NetNSPath: netns}, Selection{true, true}},
		"default runtime is runc":             {defaults, Identity{Runtime: "io.containerd.runc.v2", NetNSPath: netns}, Selection{}},
		"default runtime, type unknown":       {defaults, Identity{NetNSPath: netns}, Selection{}},
		"a handler's name goes over its type": {defaults, Identity{Handler: "dev", Runtime: "io.containerd.runsc.v1", NetNSPath: netns}, Selection{}},
		"host network":                        {defaults, Identity{Handler: "runsc"}, Selection{}},
		"host network that asks":              {defaults, Identity{Handler: "runsc", Annotations: wish("true")}, Selection{}},
		"runc that asks":                      {defaults, Identity{Handler: "runc", NetNSPath: netns, Annotations: wish("true")}, Selection{true, true}},
		"gVisor that asks not to":             {defaults, Identity{Handler: "runsc", NetNSPath: netns, Annotations: wish("false")}, Selection{}},
		"Kata that asks stays unannotated":    {defaults, Identity{Handler: "kata", NetNSPath: netns, Annotations: wish("true")}, Selection{true, false}},
		"a value that is neither":             {defaults, Identity{Handler: "runsc", NetNSPath: netns, Annotations: wish("yes")}, Selection{true, true}},
		"optIn refuses to let go":             {optIn, Identity{Handler: "runsc", NetNSPath: netns, Annotations: wish("false")}, Selection{true, true}},
		"optIn lets in":                       {optIn, Identity{Handler: "runc", NetNSPath: netns, Annotations: wish("true")}, Selection{true, true}},
		"ignore lets nobody in":               {ignore, Identity{Handler: "runc", NetNSPath: netns, Annotations: wish("true")}, Selection{}},
		"ignore lets nobody out":              {ignore, Identity{Handler: "runsc", NetNSPath: netns, Annotations: wish("false")}, Selection{true, true}},
		"zero selector":                       {Selector{}, Identity{Handler: "runsc", NetNSPath: netns}, Selection{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.selector.Select(tc.id); got != tc.want {
				t.Errorf("Select(%+v) = %+v, want %+v", tc.id, got, tc.want)
			}
		})
	}
}

func TestValidateSelector(t *testing.T) {
	for name, selector := range map[string]Selector{
		"broken glob":    {Handlers: []string{"["}, PodAnnotations: AllowAnnotation},
		"empty glob":     {Annotate: []string{""}, PodAnnotations: AllowAnnotation},
		"unknown policy": {PodAnnotations: "perhaps"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := selector.Validate(); err == nil {
				t.Error("no error")
			}
		})
	}
	if err := (Selector{Handlers: []string{"runsc*"}, PodAnnotations: OptInAnnotation}).Validate(); err != nil {
		t.Error(err)
	}
}
