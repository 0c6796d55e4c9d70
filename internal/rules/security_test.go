// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// threats is the page that says what is done against what, and which test shows it.
const threats = "docs/security.md"

// tested finds links to a test: ../pkg/netns/netns_test.go#TestANamespaceExistsOnlyWhereItsCookieIs.
var tested = regexp.MustCompile(`\]\(([^)#\s]+_test\.go)#([A-Za-z0-9_]+)\)`)

func TestDocsNameOnlyTestsThatExist(t *testing.T) {
	seen := 0
	for _, doc := range documents(t) {
		for _, m := range tested.FindAllStringSubmatch(doc.text, -1) {
			seen++
			file := path.Join(path.Dir(doc.name), m[1])
			code, err := os.ReadFile(filepath.Join(root(t), file))
			if err != nil {
				t.Errorf("%s names a test of %s: %v", doc.name, file, err)
			} else if !strings.Contains(string(code), "\nfunc "+m[2]+"(") {
				t.Errorf("%s names %s#%s, and there is no such test", doc.name, file, m[2])
			}
		}
	}
	if seen == 0 {
		t.Error("no document names a test")
	}
}

// What is said to hold against somebody is shown by a test.
func TestEveryMitigationNamesItsTest(t *testing.T) {
	const title = "Who can send what"
	claims := items(section(page(t, threats), title))
	if len(claims) == 0 {
		t.Fatalf("%s has no list below %q", threats, title)
	}
	for _, claim := range claims {
		if !tested.MatchString(claim) {
			t.Errorf("%s names no test of this:\n%s", threats, claim)
		}
	}
}

// items returns the items of all lists, each with the lines that belong to it.
func items(text string) []string {
	var found []string
	inItem := false
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "- "):
			found = append(found, line)
			inItem = true
		case strings.HasPrefix(line, "  ") && inItem:
			found[len(found)-1] += line
		default:
			inItem = false
		}
	}
	return found
}

func TestListsAreTakenApart(t *testing.T) {
	got := items("x\n\n- a\n  b\n- c\nd\n  e\n\n- f\n")
	if want := []string{"- a\n  b\n", "- c\n", "- f\n"}; !slices.Equal(got, want) {
		t.Errorf("items %q, want %q", got, want)
	}
}
