// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// deployed finds files and folders of deploy that a text names from the root.
var deployed = regexp.MustCompile(`\bdeploy/[A-Za-z0-9][A-Za-z0-9._/-]*[A-Za-z0-9]`)

func TestDocsNameOnlyFilesOfDeployThatExist(t *testing.T) {
	seen := 0
	for _, doc := range documents(t) {
		for _, name := range deployed.FindAllString(doc.text, -1) {
			seen++
			if _, err := os.Stat(filepath.Join(root(t), name)); err != nil {
				t.Errorf("%s names %s: %v", doc.name, name, err)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no file of deploy is named anywhere")
	}
}

// operations is the page that says what alerts and reasons mean.
const operations = "docs/operations.md"

// anchored finds links to a heading, of the same document or of another one.
var anchored = regexp.MustCompile(`\]\(([^)#\s]*)#([^)\s]+)\)`)

func TestDocsLinkToHeadingsThatExist(t *testing.T) {
	docs := map[string]document{}
	for _, doc := range documents(t) {
		docs[doc.name] = doc
	}
	seen := 0
	for name, doc := range docs {
		for _, m := range anchored.FindAllStringSubmatch(doc.text, -1) {
			target, anchor := name, m[2]
			if strings.Contains(m[1], "://") {
				continue
			}
			if m[1] != "" {
				target = path.Join(path.Dir(name), m[1])
			}
			seen++
			// A target that is no document is another test's business.
			if to, ok := docs[target]; ok && !slices.Contains(anchors(to.text), anchor) {
				t.Errorf("%s links to %s#%s, and there is no such heading", name, target, anchor)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no link to a heading was found")
	}
}

// Whatever can stand in "skipped", or be an Event's reason, is explained, and
// nothing else.
func TestOperationsExplainsEveryReason(t *testing.T) {
	for title, of := range map[string]string{"Reasons": "neighbor", "Events": "events"} {
		explained := firstColumn(section(page(t, operations), title))
		known := reasons(t, of)
		slices.Sort(explained)
		slices.Sort(known)
		if len(known) == 0 {
			t.Errorf("package %s has no reasons", of)
		}
		if diff := cmp.Diff(known, explained); diff != "" {
			t.Errorf("reasons of package %s (-) and of %s, %q (+):\n%s", of, operations, title, diff)
		}
	}
}

// alertRules are the alerts, as the Prometheus operator takes them.
const alertRules = "deploy/observability/prometheusrule.yaml"

// Each alert has its heading, to which its runbook_url leads, and no heading is
// left of one that is gone.
func TestOperationsExplainsEveryAlert(t *testing.T) {
	var rules struct {
		Spec struct {
			Groups []struct {
				Rules []struct {
					Alert       string
					Annotations map[string]string
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(page(t, alertRules)), &rules); err != nil {
		t.Fatalf("decode %s: %v", alertRules, err)
	}
	var alerts []string
	for _, group := range rules.Spec.Groups {
		for _, rule := range group.Rules {
			alerts = append(alerts, rule.Alert)
			if want := operations + "#" + slug(rule.Alert); !strings.HasSuffix(rule.Annotations["runbook_url"], "/"+want) {
				t.Errorf("alert %s leads to %q, want %s", rule.Alert, rule.Annotations["runbook_url"], want)
			}
		}
	}
	if len(alerts) == 0 {
		t.Fatalf("%s has no alerts", alertRules)
	}
	var explained []string
	for line := range strings.Lines(section(page(t, operations), "Alerts")) {
		if m := heading.FindStringSubmatch(line); m != nil {
			explained = append(explained, m[1])
		}
	}
	slices.Sort(alerts)
	slices.Sort(explained)
	if diff := cmp.Diff(alerts, explained); diff != "" {
		t.Errorf("alerts of %s (-) and of %s (+):\n%s", alertRules, operations, diff)
	}
}

// anchors returns the names by which a document's headings are linked to, as
// GitHub makes them.
func anchors(text string) []string {
	var found []string
	inBlock := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			inBlock = !inBlock
		}
		if m := heading.FindStringSubmatch(line); m != nil && !inBlock {
			anchor := slug(m[1])
			for base, n := anchor, 1; slices.Contains(found, anchor); n++ {
				anchor = base + "-" + strconv.Itoa(n)
			}
			found = append(found, anchor)
		}
	}
	return found
}

var (
	heading = regexp.MustCompile(`^#{1,6} +(.*?)\s*$`)
	// dropped is what a heading loses on its way to an anchor.
	dropped = regexp.MustCompile(`[^\p{L}\p{N}\p{M} _-]`)
	linked  = regexp.MustCompile(`\[([^]]*)\]\([^)]*\)`)
)

func slug(heading string) string {
	text := linked.ReplaceAllString(heading, "$1")
	return strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(text), ""), " ", "-")
}

// page returns the text of one document.
func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section returns what stands below a heading of the second level.
func section(text, title string) string {
	_, rest, _ := strings.Cut(text, "\n## "+title+"\n")
	body, _, _ := strings.Cut(rest, "\n## ")
	return body
}

// firstColumn returns the code in the first column of all tables.
func firstColumn(text string) []string {
	var found []string
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || strings.TrimSpace(cells[0]) != "" {
			continue
		}
		for _, m := range span.FindAllStringSubmatch(cells[1], -1) {
			found = append(found, m[1])
		}
	}
	return found
}

// reasons are the values of the constants of a package's type Reason, wherever they
// are declared.
func reasons(t *testing.T, of string) []string {
	t.Helper()
	var found []string
	for _, name := range goFiles(t) {
		if strings.HasSuffix(name, "_test.go") || !product.MatchString(name) {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root(t), name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && isReason(spec.Type, file.Name.Name, of) {
				for _, value := range spec.Values {
					if lit, ok := value.(*ast.BasicLit); ok {
						s, err := strconv.Unquote(lit.Value)
						if err != nil {
							t.Fatal(err)
						}
						found = append(found, s)
					}
				}
			}
			return true
		})
	}
	return found
}

// isReason tells whether a type, written in the package in, is that of the
// package of: Reason at home, of.Reason elsewhere.
func isReason(kind ast.Expr, in, of string) bool {
	switch kind := kind.(type) {
	case *ast.Ident:
		return in == of && kind.Name == "Reason"
	case *ast.SelectorExpr:
		pkg, ok := kind.X.(*ast.Ident)
		return ok && pkg.Name == of && kind.Sel.Name == "Reason"
	}
	return false
}

func TestHeadingsBecomeAnchors(t *testing.T) {
	text := "# A page\n## What's `new` on 1.7?\n```sh\n# no heading\n```\n### See [this](x.md#y), too\n## A page\n"
	want := []string{"a-page", "whats-new-on-17", "see-this-too", "a-page-1"}
	if diff := cmp.Diff(want, anchors(text)); diff != "" {
		t.Errorf("anchors (-want +got):\n%s", diff)
	}
	if got := section("x\n## One\na\n## Two\nb\n", "One"); got != "a" {
		t.Errorf("section %q, want %q", got, "a")
	}
	if diff := cmp.Diff([]string{"A", "B"}, firstColumn("| h |\n|---|\n| `A`, `B` | `c` |\nx | `D` | y\n")); diff != "" {
		t.Errorf("first column (-want +got):\n%s", diff)
	}
}
