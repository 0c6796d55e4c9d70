// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"testing"

	"github.com/neighpin/neighpin/pkg/record"
)

func TestSelect(t *testing.T) {
	defaults := Selector{
		Handlers:       []string{"runsc*", "gvisor*", "kata*"},
		Annotate:       []string{"runsc*", "gvisor*"},
		PodAnnotations: AllowAnnotation,
	}
	optIn, ignore := defaults, defaults
	optIn.PodAnnotations, ignore.PodAnnotations = OptInAnnotation, IgnoreAnnotation

	wish := func(value string) map[string]string { return map[string]string{PinAnnotation: value} }
	file := func(pin string) map[string]string {
		return map[string]string{PinAnnotation: pin, FileAnnotation: "true"}
	}
	both := Selection{Pin: true, Annotate: true}
	all := Selection{Pin: true, Annotate: true, File: true}
	without := optIn
	without.ExcludeNamespaces = []string{"kube-system", "build-*"}
	runc := defaults
	runc.Handlers = append([]string{"runc"}, runc.Handlers...)
	const netns = "/var/run/netns/cni-1"
	for name, tc := range map[string]struct {
		selector Selector
		id       record.Identity
		want     Selection
	}{
		"gVisor by handler":                   {defaults, record.Identity{Handler: "runsc", NetNSPath: netns}, both},
		"Kata is pinned, not annotated":       {defaults, record.Identity{Handler: "kata-qemu", NetNSPath: netns}, Selection{Pin: true}},
		"runc by handler":                     {defaults, record.Identity{Handler: "runc", NetNSPath: netns}, Selection{}},
		"default runtime is gVisor":           {defaults, record.Identity{Runtime: "io.containerd.runsc.v1", NetNSPath: netns}, both},
		"default runtime is runc":             {defaults, record.Identity{Runtime: "io.containerd.runc.v2", NetNSPath: netns}, Selection{}},
		"default runtime, type unknown":       {defaults, record.Identity{NetNSPath: netns}, Selection{}},
		"a handler's name goes over its type": {defaults, record.Identity{Handler: "dev", Runtime: "io.containerd.runsc.v1", NetNSPath: netns}, Selection{}},
		"host network":                        {defaults, record.Identity{Handler: "runsc"}, Selection{}},
		"host network that asks":              {defaults, record.Identity{Handler: "runsc", Annotations: wish("true")}, Selection{}},
		"runc that asks":                      {defaults, record.Identity{Handler: "runc", NetNSPath: netns, Annotations: wish("true")}, both},
		"gVisor that asks not to":             {defaults, record.Identity{Handler: "runsc", NetNSPath: netns, Annotations: wish("false")}, Selection{}},
		"Kata that asks stays unannotated":    {defaults, record.Identity{Handler: "kata", NetNSPath: netns, Annotations: wish("true")}, Selection{Pin: true}},
		"a value that is neither":             {defaults, record.Identity{Handler: "runsc", NetNSPath: netns, Annotations: wish("yes")}, both},
		"optIn refuses to let go":             {optIn, record.Identity{Handler: "runsc", NetNSPath: netns, Annotations: wish("false")}, both},
		"optIn lets in":                       {optIn, record.Identity{Handler: "runc", NetNSPath: netns, Annotations: wish("true")}, both},
		"ignore lets nobody in":               {ignore, record.Identity{Handler: "runc", NetNSPath: netns, Annotations: wish("true")}, Selection{}},
		"ignore lets nobody out":              {ignore, record.Identity{Handler: "runsc", NetNSPath: netns, Annotations: wish("false")}, both},
		"file, runc that asks":                {defaults, record.Identity{Handler: "runc", Runtime: typeRunc, NetNSPath: netns, Annotations: file("true")}, all},
		"file, runc by handler":               {runc, record.Identity{Handler: "runc", Runtime: typeRunc, NetNSPath: netns, Annotations: file("")}, Selection{Pin: true, File: true}},
		"file, optIn":                         {optIn, record.Identity{Handler: "runc", Runtime: typeRunc, NetNSPath: netns, Annotations: file("true")}, all},
		"file, but ignored":                   {ignore, record.Identity{Handler: "runsc", Runtime: typeRunc, NetNSPath: netns, Annotations: file("true")}, both},
		"file, but not selected":              {defaults, record.Identity{Handler: "runc", Runtime: typeRunc, NetNSPath: netns, Annotations: file("")}, Selection{}},
		"file, but let go":                    {runc, record.Identity{Handler: "runc", Runtime: typeRunc, NetNSPath: netns, Annotations: file("false")}, Selection{}},
		"no file in gVisor":                   {defaults, record.Identity{Handler: "runsc", Runtime: typeGVisor, NetNSPath: netns, Annotations: file("true")}, both},
		"no file where the type is not known": {defaults, record.Identity{Handler: "runsc", NetNSPath: netns, Annotations: file("true")}, both},
		"excluded namespace":                  {without, record.Identity{Namespace: "kube-system", Handler: "runsc", NetNSPath: netns}, Selection{}},
		"excluded by a glob":                  {without, record.Identity{Namespace: "build-7", Handler: "runsc", NetNSPath: netns}, Selection{}},
		"excluded, and asks":                  {without, record.Identity{Namespace: "build-7", Handler: "runc", Runtime: typeRunc, NetNSPath: netns, Annotations: file("true")}, Selection{}},
		"another namespace":                   {without, record.Identity{Namespace: "kube-systems", Handler: "runsc", NetNSPath: netns}, both},
		"another namespace, and asks":         {without, record.Identity{Namespace: "rebuild-7", Handler: "runc", NetNSPath: netns, Annotations: wish("true")}, both},
		"no namespace known":                  {without, record.Identity{Handler: "runsc", NetNSPath: netns}, both},
		"zero selector":                       {Selector{}, record.Identity{Handler: "runsc", NetNSPath: netns}, Selection{}},
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
		"broken glob":                {Handlers: []string{"["}, PodAnnotations: AllowAnnotation},
		"empty glob":                 {Annotate: []string{""}, PodAnnotations: AllowAnnotation},
		"broken glob of a namespace": {ExcludeNamespaces: []string{"a[", "b"}, PodAnnotations: AllowAnnotation},
		"empty glob of a namespace":  {ExcludeNamespaces: []string{"a", ""}, PodAnnotations: AllowAnnotation},
		"unknown policy":             {PodAnnotations: "perhaps"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := selector.Validate(); err == nil {
				t.Error("no error")
			}
		})
	}
	if err := (Selector{Handlers: []string{"runsc*"}, PodAnnotations: OptInAnnotation, ExcludeNamespaces: []string{"kube-*"}}).Validate(); err != nil {
		t.Error(err)
	}
}
