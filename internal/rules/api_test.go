// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"flag"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/api instead of comparing it")

// importable are the packages that README promises to others. What else is in pkg is the daemon's own.
var importable = []string{"pkg/annotation", "pkg/neighbor", "pkg/netns"}

func TestTheExportedNamesAreThoseThatWerePromised(t *testing.T) {
	packages := exportData(t)
	for _, name := range importable {
		t.Run(filepath.Base(name), func(t *testing.T) {
			pkg, err := packages.Import(module + "/" + name)
			if err != nil {
				t.Fatal(err)
			}
			now := exported(pkg)
			golden := filepath.Join("testdata", "api", filepath.Base(name)+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(strings.Join(now, "\n")+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			promised, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := difference(strings.Split(strings.TrimSpace(string(promised)), "\n"), now); diff != "" {
				t.Errorf(`%s exports other names than internal/rules/%s (- promised, + there):
%sOthers import it. If it has to be: say so in CHANGELOG.md, under Changed or Removed if a line begins with -, then
    go test ./internal/rules -run ExportedNames -update`, name, golden, diff)
			}
		})
	}
}

// exportData imports packages from what the compiler has made of them.
func exportData(t *testing.T) types.Importer {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}}={{.Export}}"}
	for _, name := range importable {
		args = append(args, module+"/"+name)
	}
	cmd := exec.Command("go", args...)
	var complaints bytes.Buffer
	cmd.Dir, cmd.Stderr = root(t), &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list packages: %v\n%s", err, complaints.String())
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		files[path] = file
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(files[path])
	})
}

// exported lists what a package offers, a line each, sorted: like the files in Go's own api folder, by which the
// standard library keeps its promise.
func exported(pkg *types.Package) []string {
	within := types.RelativeTo(pkg)
	var lines []string
	for _, name := range pkg.Scope().Names() {
		object := pkg.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		switch object := object.(type) {
		case *types.Const:
			lines = append(lines, fmt.Sprintf("const %s %s = %s", name, types.TypeString(object.Type(), within), object.Val().ExactString()))
		case *types.Var:
			lines = append(lines, fmt.Sprintf("var %s %s", name, types.TypeString(object.Type(), within)))
		case *types.Func:
			lines = append(lines, "func "+name+signature(object, within))
		case *types.TypeName:
			lines = append(lines, declared(object, within)...)
		}
	}
	slices.Sort(lines)
	return lines
}

// declared lists a type with its exported fields, or the methods that it asks for, and its own exported methods.
func declared(object *types.TypeName, within types.Qualifier) []string {
	head := "type " + object.Name()
	if object.IsAlias() {
		return []string{head + " = " + types.TypeString(types.Unalias(object.Type()), within)}
	}
	var lines []string
	switch under := object.Type().Underlying().(type) {
	case *types.Struct:
		lines = append(lines, head+" struct")
		for field := range under.Fields() {
			if field.Exported() {
				lines = append(lines, fmt.Sprintf("%s struct, %s %s", head, field.Name(), types.TypeString(field.Type(), within)))
			}
		}
	default:
		lines = append(lines, head+" "+types.TypeString(under, within))
	}
	if named, ok := object.Type().(*types.Named); ok {
		for method := range named.Methods() {
			if method.Exported() {
				receiver := types.TypeString(method.Signature().Recv().Type(), within)
				lines = append(lines, fmt.Sprintf("method (%s) %s%s", receiver, method.Name(), signature(method, within)))
			}
		}
	}
	return lines
}

// signature is a function's, without the names of its parameters, which are nobody's business.
func signature(function *types.Func, within types.Qualifier) string {
	s := function.Signature()
	nameless := types.NewSignatureType(nil, nil, nil, anonymous(s.Params()), anonymous(s.Results()), s.Variadic())
	return strings.TrimPrefix(types.TypeString(nameless, within), "func")
}

func anonymous(tuple *types.Tuple) *types.Tuple {
	var vars []*types.Var
	for v := range tuple.Variables() {
		vars = append(vars, types.NewParam(v.Pos(), v.Pkg(), "", v.Type()))
	}
	return types.NewTuple(vars...)
}

// difference shows the lines that only one of two sorted lists has, sorted, so that the two sides of a change stand together.
func difference(before, after []string) string {
	var lines []string
	for _, line := range before {
		if !slices.Contains(after, line) {
			lines = append(lines, "- "+line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			lines = append(lines, "+ "+line)
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	var text strings.Builder
	for _, line := range lines {
		fmt.Fprintf(&text, "    %s\n", line)
	}
	return text.String()
}
