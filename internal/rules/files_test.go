// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The lengths that keep a file readable in one go; a test may hold a longer
// table. What grows beyond them has two subjects.
const (
	maxLines     = 400
	maxTestLines = 500
)

// What the rules look for, put together so that this file does not hold it.
const (
	complaint = "failed" + " to"
	british   = "neigh" + "bour"
)

func TestEveryGoFileFollowsTheHouseRules(t *testing.T) {
	for _, path := range goFiles(t) {
		source, err := os.ReadFile(filepath.Join(root(t), path))
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range faults(path, string(source)) {
			t.Error(fault)
		}
	}
}

func TestEveryGoFolderHasAPackageComment(t *testing.T) {
	comments := map[string]string{} // folder: the package comment, empty if it has none
	for _, path := range goFiles(t) {
		dir := filepath.Dir(path)
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root(t), path), nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Errorf("parse %s: %v", path, err)
			continue
		}
		if text := file.Doc.Text(); text != "" {
			if !opening(file.Name.Name).MatchString(text) {
				t.Errorf("%s: the package comment begins %q", path, firstLine(text))
			}
			comments[dir] = text
		} else if _, ok := comments[dir]; !ok {
			comments[dir] = ""
		}
	}
	for dir, text := range comments {
		if text == "" {
			t.Errorf("%s: no file has a package comment", dir)
		}
	}
}

// homes are the packages of the product for what is easily got wrong. Route netlink
// has one; pkg/hoststate speaks netfilter's, which no library tells in full.
var (
	homes = map[string][]string{
		"AF_NETLINK": {"pkg/internal/rtnetlink", "pkg/hoststate"}, "NETLINK_ROUTE": {"pkg/internal/rtnetlink"}, "NETLINK_NETFILTER": {"pkg/hoststate"},
		"AF_PACKET": {"pkg/probe"},
		"Setns":     {"pkg/netns"}, "Unshare": {"pkg/netns"},
	}
	product = regexp.MustCompile(`^(pkg|hooks|plugin)/`)
)

// otherWords are not the thing this project is about: an adjective, and the
// names of files in the kernel's tree.
var otherWords = regexp.MustCompile(british + `(ing|hood|\.[ch])`)

// opening is how a package comment begins: as go doc expects it.
func opening(name string) *regexp.Regexp {
	if name == "main" {
		return regexp.MustCompile(`^Command \S`)
	}
	return regexp.MustCompile(`^Package ` + regexp.QuoteMeta(strings.TrimSuffix(name, "_test")) + ` `)
}

// The checks are only worth something if they see a fault.
func TestFaultsAreFound(t *testing.T) {
	const head = "// SPDX-License-Identifier: Apache-2.0\n\npackage p\n"
	for name, c := range map[string]struct{ path, source, want string }{
		"no licence":            {"p.go", "package p\n", "first line"},
		"licence joined":        {"p.go", "// SPDX-License-Identifier: Apache-2.0\npackage p\n", "blank line"},
		"too long":              {"p.go", head + strings.Repeat("\n", maxLines), "400 lines"},
		"sleep in a test":       {"p_test.go", head + "import \"time\"\nfunc f() { time.Sleep(1) }\n", "time.Sleep"},
		"sleep, renamed import": {"p_test.go", head + "import x \"time\"\nvar f = x.Sleep\n", "time.Sleep"},
		"sleep in a fixture":    {"p.go", head + "import (\"testing\"; \"time\")\nfunc f(testing.TB) { time.Sleep(1) }\n", "time.Sleep"},
		"complaint":             {"p.go", head + "import \"errors\"\nvar e = errors.New(\"" + complaint + " open\")\n", complaint},
		"British spelling":      {"p.go", head + "// A " + british + ".\nvar e int\n", "neighbor"},
		"netlink elsewhere":     {"pkg/p/p.go", head + "var e = unix.NETLINK_ROUTE\n", "for pkg/internal/rtnetlink only"},
		"setns elsewhere":       {"plugin/p.go", head + "var e = syscall.Setns\n", "for pkg/netns only"},
		"init":                  {"p.go", head + "func init() {}\n", "init"},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(faults(c.path, c.source), "\n")
			if !strings.Contains(got, c.want) {
				t.Errorf("faults = %q, want %q in it", got, c.want)
			}
		})
	}
	if got := faults("pkg/internal/rtnetlink/p.go", head+"var e = unix.AF_NETLINK\n"); len(got) != 0 {
		t.Errorf("netlink at home: %q", got)
	}
	if got := faults("p.go", head+"import \"time\"\nfunc f() { time.Sleep(1) }\n"); len(got) != 0 {
		t.Errorf("a file without fault: %q", got)
	}
}

// faults returns what is wrong with one Go file, a line each.
func faults(path, source string) []string {
	var found []string
	fault := func(line int, format string, args ...any) {
		found = append(found, fmt.Sprintf("%s:%d: %s", path, line, fmt.Sprintf(format, args...)))
	}

	lines := strings.Split(strings.TrimSuffix(source, "\n"), "\n")
	if lines[0] != "// SPDX-License-Identifier: Apache-2.0" {
		fault(1, "the first line is not the licence: // SPDX-License-Identifier: Apache-2.0")
	} else if len(lines) > 1 && lines[1] != "" {
		// Joined to the package clause it would become the package comment.
		fault(2, "no blank line after the licence")
	}
	limit := maxLines
	if strings.HasSuffix(path, "_test.go") {
		limit = maxTestLines
	}
	if len(lines) > limit {
		fault(limit, "%d lines, more than the %d lines a file may have", len(lines), limit)
	}
	for i, line := range lines {
		if strings.Contains(otherWords.ReplaceAllString(strings.ToLower(line), ""), british) {
			fault(i+1, "the word is neighbor, as in the kernel's sources")
		}
	}

	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, source, 0)
	if err != nil {
		fault(1, "parse: %v", err)
		return found
	}
	clock, testing := importName(file, "time"), importName(file, "testing")
	inTests := strings.HasSuffix(path, "_test.go") || testing != ""
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			pkg, ok := n.X.(*ast.Ident)
			if ok && !inTests && (pkg.Name == "unix" || pkg.Name == "syscall") {
				home, found := homes[n.Sel.Name]
				if found && product.MatchString(path) && !slices.Contains(home, filepath.Dir(path)) {
					fault(fset.Position(n.Pos()).Line, "%s is for %s only", n.Sel.Name, strings.Join(home, " and "))
				}
			}
			if ok && inTests && clock != "" && pkg.Name == clock && n.Sel.Name == "Sleep" {
				fault(fset.Position(n.Pos()).Line, "time.Sleep in a test: wait for the event itself, with a deadline")
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING && strings.Contains(n.Value, complaint) {
				fault(fset.Position(n.Pos()).Line, "%q in a text: an error names the verb and the object", complaint)
			}
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				fault(fset.Position(n.Pos()).Line, "func init: no package-level state; main wires")
			}
		}
		return true
	})
	return found
}

// importName returns the name under which a file imports a package, or "".
func importName(file *ast.File, path string) string {
	for _, spec := range file.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err != nil || p != path {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return filepath.Base(path)
	}
	return ""
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
