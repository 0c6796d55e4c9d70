// SPDX-License-Identifier: Apache-2.0

package selection

import (
	"strings"
	"testing"

	"github.com/neighpin/neighpin/pkg/record"
)

func TestWhichPodsAreSelected(t *testing.T) {
	defaults := Rules{
		Handlers:       []string{"runsc*", "gvisor*", "kata*"},
		Annotate:       []string{"runsc*", "gvisor*"},
		PodAnnotations: Allow,
	}
	optIn, ignore := defaults, defaults
	optIn.PodAnnotations, ignore.PodAnnotations = OptIn, Ignore

	wish := func(value string) map[string]string { return map[string]string{PinAnnotation: value} }
	file := func(pin string) map[string]string {
		return map[string]string{PinAnnotation: pin, FileAnnotation: "true"}
	}
	both := Choice{Pin: true, Annotate: true}
	all := Choice{Pin: true, Annotate: true, File: true}
	without := optIn
	without.ExcludeNamespaces = []string{"kube-system", "build-*"}
	runc := defaults
	runc.Handlers = append([]string{"runc"}, runc.Handlers...)
	const netns = "/var/run/netns/cni-1"
	for name, tc := range map[string]struct {
		selector Rules
		id       record.Identity
		want     Choice
	}{
		"gVisor by handler":                   {defaults, record.Identity{Handler: "runsc", NetNSPath: netns}, both},
		"Kata is pinned, not annotated":       {defaults, record.Identity{Handler: "kata-qemu", NetNSPath: netns}, Choice{Pin: true}},
		"runc by handler":                     {defaults, record.Identity{Handler: "runc", NetNSPath: netns}, Choice{}},
		"default runtime is gVisor":           {defaults, record.Identity{Runtime: "io.containerd.runsc.v1", NetNSPath: netns}, both},
		"default runtime is runc":             {defaults, record.Identity{Runtime: "io.containerd.runc.v2", NetNSPath: netns}, Choice{}},
		"default runtime, type unknown":       {defaults, record.Identity{NetNSPath: netns}, Choice{}},
		"a handler's name goes over its type": {defaults, record.Identity{Handler: "dev", Runtime: "io.containerd.runsc.v1", NetNSPath: netns}, Choice{}},
		"host network":                        {defaults, record.Identity{Handler: "runsc"}, Choice{}},
		"host network that asks":              {defaults, record.Identity{Handler: "runsc", Annotations: wish("true")}, Choice{}},
		"runc that asks":                      {defaults, record.Identity{Handler: "runc", NetNSPath: netns, Annotations: wish("true")}, both},
		"gVisor that asks not to":             {defaults, record.Identity{Handler: "runsc", NetNSPath: netns, Annotations: wish("false")}, Choice{}},
		"Kata that asks stays unannotated":    {defaults, record.Identity{Handler: "kata", NetNSPath: netns, Annotations: wish("true")}, Choice{Pin: true}},
		"a value that is neither":             {defaults, record.Identity{Handler: "runsc", NetNSPath: netns, Annotations: wish("yes")}, both},
		"optIn refuses to let go":             {optIn, record.Identity{Handler: "runsc", NetNSPath: netns, Annotations: wish("false")}, both},
		"optIn lets in":                       {optIn, record.Identity{Handler: "runc", NetNSPath: netns, Annotations: wish("true")}, both},
		"ignore lets nobody in":               {ignore, record.Identity{Handler: "runc", NetNSPath: netns, Annotations: wish("true")}, Choice{}},
		"ignore lets nobody out":              {ignore, record.Identity{Handler: "runsc", NetNSPath: netns, Annotations: wish("false")}, both},
		"file, runc that asks":                {defaults, record.Identity{Handler: "runc", Runtime: "io.containerd.runc.v2", NetNSPath: netns, Annotations: file("true")}, all},
		"file, runc by handler":               {runc, record.Identity{Handler: "runc", Runtime: "io.containerd.runc.v2", NetNSPath: netns, Annotations: file("")}, Choice{Pin: true, File: true}},
		"no file, runc that asks not to":      {runc, record.Identity{Runtime: "io.containerd.runc.v2", NetNSPath: netns, Annotations: map[string]string{FileAnnotation: "false"}}, Choice{Pin: true}},
		"no file, runc by handler":            {runc, record.Identity{Runtime: "io.containerd.runc.v2", NetNSPath: netns}, Choice{Pin: true}},
		"file, optIn":                         {optIn, record.Identity{Handler: "runc", Runtime: "io.containerd.runc.v2", NetNSPath: netns, Annotations: file("true")}, all},
		"file, but ignored":                   {ignore, record.Identity{Handler: "runsc", Runtime: "io.containerd.runc.v2", NetNSPath: netns, Annotations: file("true")}, both},
		"file, but not selected":              {defaults, record.Identity{Handler: "runc", Runtime: "io.containerd.runc.v2", NetNSPath: netns, Annotations: file("")}, Choice{}},
		"file, but let go":                    {runc, record.Identity{Handler: "runc", Runtime: "io.containerd.runc.v2", NetNSPath: netns, Annotations: file("false")}, Choice{}},
		"no file in gVisor":                   {defaults, record.Identity{Handler: "runsc", Runtime: "io.containerd.runsc.v1", NetNSPath: netns, Annotations: file("true")}, both},
		"no file where the type is not known": {defaults, record.Identity{Handler: "runsc", NetNSPath: netns, Annotations: file("true")}, both},
		"excluded namespace":                  {without, record.Identity{Namespace: "kube-system", Handler: "runsc", NetNSPath: netns}, Choice{}},
		"excluded by a glob":                  {without, record.Identity{Namespace: "build-7", Handler: "runsc", NetNSPath: netns}, Choice{}},
		"excluded, and asks":                  {without, record.Identity{Namespace: "build-7", Handler: "runc", Runtime: "io.containerd.runc.v2", NetNSPath: netns, Annotations: file("true")}, Choice{}},
		"another namespace":                   {without, record.Identity{Namespace: "kube-systems", Handler: "runsc", NetNSPath: netns}, both},
		"another namespace, and asks":         {without, record.Identity{Namespace: "rebuild-7", Handler: "runc", NetNSPath: netns, Annotations: wish("true")}, both},
		"no namespace known":                  {without, record.Identity{Handler: "runsc", NetNSPath: netns}, both},
		"broken glob":                         {Rules{Handlers: []string{"["}, PodAnnotations: Allow}, record.Identity{Handler: "runsc", NetNSPath: netns}, Choice{}},
		"zero selector":                       {Rules{}, record.Identity{Handler: "runsc", NetNSPath: netns}, Choice{}},
		"zero selector, and asks":             {Rules{}, record.Identity{Handler: "runsc", NetNSPath: netns, Annotations: wish("true")}, Choice{}},
		"annotated by handler, not pinned":    {Rules{Annotate: []string{"runsc"}, PodAnnotations: Allow}, record.Identity{Handler: "runsc", NetNSPath: netns}, Choice{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.selector.Select(tc.id); got != tc.want {
				t.Errorf("Select(%+v) = %+v, want %+v", tc.id, got, tc.want)
			}
		})
	}
}

func TestASelectorThatCannotBeMeantIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		selector Rules
		say      string
	}{
		"broken glob":                {Rules{Handlers: []string{"["}, PodAnnotations: Allow}, `handlers: "["`},
		"empty glob":                 {Rules{Annotate: []string{""}, PodAnnotations: Allow}, `annotate: ""`},
		"broken glob of a namespace": {Rules{ExcludeNamespaces: []string{"a[", "b"}, PodAnnotations: Allow}, `excludeNamespaces: "a["`},
		"empty glob of a namespace":  {Rules{ExcludeNamespaces: []string{"a", ""}, PodAnnotations: Allow}, `excludeNamespaces: ""`},
		"unknown policy":             {Rules{PodAnnotations: "perhaps"}, `podAnnotations: "perhaps"`},
		"no policy":                  {Rules{}, `podAnnotations: ""`},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.selector.Validate(); err == nil || !strings.Contains(err.Error(), c.say) {
				t.Errorf("error %v does not say %s", err, c.say)
			}
		})
	}
	for _, policy := range []Policy{Allow, OptIn, Ignore} {
		if err := (Rules{Handlers: []string{"runsc*"}, PodAnnotations: policy, ExcludeNamespaces: []string{"kube-*"}}).Validate(); err != nil {
			t.Error(err)
		}
	}
}
