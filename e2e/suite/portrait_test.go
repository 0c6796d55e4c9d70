// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/neighpin/neighpin/e2e/internal/node"
)

// differences says of each key on which two maps do not agree what was seen and what was expected, a line each.
func differences(seen, expected map[string]string) (lines []string) {
	keys := maps.Clone(seen)
	maps.Copy(keys, expected)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if seen[key] != expected[key] {
			lines = append(lines, fmt.Sprintf("%s: seen %s, expected %s", key, cmp.Or(seen[key], "nothing"), cmp.Or(expected[key], "nothing")))
		}
	}
	return lines
}

// disagree puts differences below what they are of.
func disagree(of string, lines []string) string { return of + ":\n  " + strings.Join(lines, "\n  ") }

// portrait is what there is to know of a pod at first sight when its test has failed: where it is, and what neighpin's record
// has for each of its gateways.
func portrait(pod *node.Pod) string {
	var b strings.Builder
	fmt.Fprintf(&b, "pod %s/%s, sandbox %.12s, namespace %s", pod.Namespace, pod.Name, pod.ID, cmp.Or(pod.NetNS, "of the host"))
	if mac, err := hostMAC(pod); err == nil {
		fmt.Fprintf(&b, ", other end %s at %s", pod.HostLink, mac)
	}
	said := bed.Said(node.StateDir)
	r, err := said.Record(pod)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(&b, "\n  neighpin has no record of it in %s", node.StateDir)
		return b.String()
	case err != nil:
		fmt.Fprintf(&b, "\n  %v", err)
		return b.String()
	}
	fmt.Fprintf(&b, "\n  neighpin's record: %s, %s with a margin of %g ms", r.Phase, cmp.Or(r.Timing.Verdict, "no verdict"), r.Timing.MarginMs)
	if r.Error != "" {
		fmt.Fprintf(&b, "\n  error: %s", r.Error)
	}
	for _, n := range r.Neighbors {
		fmt.Fprintf(&b, "\n  gateway %s on %s: pinned to %s (%s)", n.Dst, n.Dev, n.LLAddr, n.Source)
	}
	for _, s := range r.Skipped {
		fmt.Fprintf(&b, "\n  gateway %s on %s: not pinned, %s", s.Dst, s.Dev, s.Reason)
	}
	for _, s := range r.Stale {
		fmt.Fprintf(&b, "\n  gateway %s on %s: stale, copied %s, true is %s", s.Dst, s.Dev, s.Copied, cmp.Or(s.LLAddr, s.Reason))
	}
	return b.String()
}
