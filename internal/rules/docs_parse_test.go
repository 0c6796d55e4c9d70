// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDocumentsAreTakenApart(t *testing.T) {
	doc := parseDocument("x.md", "Say `neighpin\nstatus` or `--x`.\n\n```sh\n$ neighpin pin\n```\n\n```\nneighpin draws\n$ make it\n```\n\n| Key | text |\n|---|---|\n| `a` | `b` |\n\n| `c` | d |\n")
	if want := []string{"neighpin status", "--x", "a", "b", "c"}; !slices.Equal(doc.spans, want) {
		t.Errorf("spans %q, want %q", doc.spans, want)
	}
	if want := []string{"$ neighpin pin", "$ make it"}; !slices.Equal(doc.lines, want) {
		t.Errorf("lines %q, want %q", doc.lines, want)
	}
	if got, want := tableKeys(doc.text), []string{"a"}; !slices.Equal(got, want) {
		t.Errorf("keys %q, want %q", got, want)
	}
	if got, want := blocks(doc.text, "sh"), []string{"$ neighpin pin\n"}; !slices.Equal(got, want) {
		t.Errorf("blocks %q, want %q", got, want)
	}
}

func TestInvocationsAreFound(t *testing.T) {
	for line, want := range map[string][][]string{
		"neighpin":                               {{}},
		"$ sudo bin/neighpin pin --netns X":      {{"pin", "--netns", "X"}},
		"NEIGHPIN_LOG_LEVEL=debug neighpin x":    {{"x"}},
		"kubectl exec ds/neighpin -- neighpin x": {{"x"}},
		"kubectl logs ds/neighpin --since 1m":    nil,
		"kubectl exec pod -- neighpin x":         {{"x"}},
		"neighpin status | jq .  # all":          {{"status"}},
		"neighpin pin && neighpin verify":        {{"pin"}, {"verify"}},
		"name: neighpin":                         nil,
		"journalctl -u neighpin --since today":   nil,
		"the neighpin daemon":                    nil,
	} {
		if diff := cmp.Diff(want, invocations(line)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
}
