// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// maxFunction is how many lines keep a function readable in one go. One of a test may
// be longer, since it holds its table.
const maxFunction = 60

// longFunctions may be longer, each for the reason that stands here.
var longFunctions = map[string]string{
	"pkg/sandbox/life_barrier.go:awaitNetwork": "one loop over all that can end the waiting for CNI, told apart in the order in which they count",
}

func TestFunctionsAreShortAndNoExportedOneTakesASwitch(t *testing.T) {
	justified := map[string]bool{}
	for _, path := range goFiles(t) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		source, err := os.ReadFile(filepath.Join(root(t), path))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range functionFaults(path, string(source)) {
			if _, ok := longFunctions[path+":"+f.name]; ok && f.long {
				justified[path+":"+f.name] = true
				continue
			}
			t.Error(f.text)
		}
	}
	for name := range longFunctions {
		if !justified[name] {
			t.Errorf("longFunctions lists %s, which is short, or gone: take it off the list", name)
		}
	}
}

type functionFault struct {
	name string
	long bool
	text string
}

// functionFaults are a file's functions that are too long, and its exported ones with a
// parameter of type bool: at the call nobody sees what true means. Two functions, or
// a type with two names, say it.
func functionFaults(path, source string) (found []functionFault) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, source, 0)
	if err != nil {
		return nil // which the rules for files tell
	}
	for _, decl := range file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		begin := fset.Position(fn.Pos()).Line
		if n := fset.Position(fn.End()).Line - begin + 1; n > maxFunction {
			found = append(found, functionFault{fn.Name.Name, true, fmt.Sprintf("%s:%d: %s has %d lines, more than the %d that a function may have", path, begin, fn.Name.Name, n, maxFunction)})
		}
		for _, parameter := range fn.Type.Params.List {
			if kind, ok := parameter.Type.(*ast.Ident); ok && kind.Name == "bool" && fn.Name.IsExported() {
				found = append(found, functionFault{fn.Name.Name, false, fmt.Sprintf("%s:%d: %s has a parameter of type bool: make two functions, or a type with two names", path, begin, fn.Name.Name)})
			}
		}
	}
	return found
}

func TestFaultsOfFunctionsAreFound(t *testing.T) {
	const head = "package p\n"
	for name, c := range map[string]struct {
		source string
		want   string
	}{
		"as long as may be":   {head + "func f() {\n" + strings.Repeat("\n", maxFunction-2) + "}\n", ""},
		"a line more":         {head + "func f() {\n" + strings.Repeat("\n", maxFunction-1) + "}\n", "has 61 lines"},
		"a method":            {head + "func (t T) f() {\n" + strings.Repeat("\n", maxFunction) + "}\n", "has 62 lines"},
		"a switch":            {head + "func F(a int, quick, deep bool) {}\n", "type bool"},
		"a switch of our own": {head + "func f(quick bool) {}\n", ""},
		"a type of two names": {head + "func F(d Depth) {}\n", ""},
		"an answer":           {head + "func F() bool { return true }\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var texts []string
			for _, f := range functionFaults("p.go", c.source) {
				texts = append(texts, f.text)
			}
			got := strings.Join(texts, "\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("faults = %q, want %q in it", got, c.want)
			}
		})
	}
}
