// SPDX-License-Identifier: Apache-2.0

package config

import (
	"testing"

	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// Kata's confidential guests refuse a container with an annotation that their
// policy does not know (kata-containers 4.1.0, src/tools/genpolicy/rules.rego,
// allow_anno), and one with a mount more (allow_mount). Its ordinary guests read
// neither.
func TestKataIsPinnedAndNothingElseByDefault(t *testing.T) {
	c := Default()
	selector := selection.Rules{Handlers: c.Handlers, Annotate: c.Annotate, PodAnnotations: selection.Policy(c.PodAnnotations)}
	for _, handler := range []string{"kata", "kata-qemu", "kata-clh", "kata-qemu-snp", "kata-qemu-coco-dev"} {
		for name, wishes := range map[string]map[string]string{
			"no wish": nil,
			"all":     {selection.PinAnnotation: "true", selection.FileAnnotation: "true"},
		} {
			id := record.Identity{Handler: handler, Runtime: "io.containerd." + handler + ".v2", NetNSPath: "/var/run/netns/x", Annotations: wishes}
			if got := selector.Select(id); got != (selection.Choice{Pin: true}) {
				t.Errorf("%s, %s: %+v, want it pinned and nothing else", handler, name, got)
			}
		}
	}
}

// The two ways out for pods of Kata's l3forwarding, in whose guests a pin of the
// host's end is wrong (docs/runtime-authors.md).
func TestKataCanBeLeftAlone(t *testing.T) {
	c := Default()
	selector := selection.Rules{Handlers: c.Handlers, Annotate: c.Annotate, PodAnnotations: selection.Allow}
	pod := record.Identity{Handler: "kata-rs", NetNSPath: "/var/run/netns/x"}
	listed := selector
	listed.Handlers = []string{"runsc*", "gvisor*", "kata-qemu"}
	if got := listed.Select(pod); got.Pin {
		t.Errorf("a handler that is not listed: %+v", got)
	}
	pod.Annotations = map[string]string{selection.PinAnnotation: "false"}
	if got := selector.Select(pod); got.Pin {
		t.Errorf("a pod that asks to be left alone: %+v", got)
	}
}
