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

func TestFunctionsAreShortAndNoExportedOneTakesASwitch(t *testing.T) {
	for _, path := range goFiles(t) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		source, err := os.ReadFile(filepath.Join(root(t), path))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range functionFaults(path, string(source)) {
			t.Error(f)
		}
	}
}

// functionFaults are a file's functions that are too long, and its exported ones with a
// parameter of type bool: at the call nobody sees what true means. Two functions, or
// a type with two names, say it.
func functionFaults(path, source string) (found []string) {
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
			found = append(found, fmt.Sprintf("%s:%d: %s has %d lines, more than the %d that a function may have", path, begin, fn.Name.Name, n, maxFunction))
		}
		for _, parameter := range fn.Type.Params.List {
			if isBool(parameter) && fn.Name.IsExported() {
				found = append(found, fmt.Sprintf("%s:%d: %s has a parameter of type bool: make two functions, or a type with two names", path, begin, fn.Name.Name))
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
			got := strings.Join(functionFaults("p.go", c.source), "\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("faults = %q, want %q in it", got, c.want)
			}
		})
	}
}

// mayPassLiterals may, each for the reason that stands here.
var mayPassLiterals = map[string]string{}

// An unexported function may take a bool that its callers have as a fact with a name. Where one writes true or
// false, the bool is a switch between two functions, and the call does not say which.
func TestNoCallSwitchesAFunctionByALiteral(t *testing.T) {
	folders := map[string]map[string]string{}
	for _, path := range goFiles(t) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		source, err := os.ReadFile(filepath.Join(root(t), path))
		if err != nil {
			t.Fatal(err)
		}
		folder := filepath.Dir(path)
		if folders[folder] == nil {
			folders[folder] = map[string]string{}
		}
		folders[folder][path] = string(source)
	}
	justified := map[string]bool{}
	for _, sources := range folders {
		for _, f := range literalFaults(sources) {
			if _, ok := mayPassLiterals[f.name]; ok {
				justified[f.name] = true
				continue
			}
			t.Error(f.text)
		}
	}
	for name := range mayPassLiterals {
		if !justified[name] {
			t.Errorf("mayPassLiterals lists %s, which passes none, or is gone: take it off the list", name)
		}
	}
}

type literalFault struct{ name, text string }

// literalFaults are the calls in a package's files that pass true or false to a function or method of the package.
func literalFaults(sources map[string]string) (found []literalFault) {
	fset := token.NewFileSet()
	files := map[string]*ast.File{}
	bools := map[string]map[int]bool{} // by the function's name, the places of such parameters
	for path, source := range sources {
		file, err := parser.ParseFile(fset, path, source, 0)
		if err != nil {
			continue // which the rules for files tell
		}
		files[path] = file
		for _, decl := range file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok {
				if bools[fn.Name.Name] == nil {
					bools[fn.Name.Name] = map[int]bool{}
				}
				for _, place := range boolPlaces(fn.Type.Params) {
					bools[fn.Name.Name][place] = true
				}
			}
		}
	}
	for path, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name := calledName(call)
			for i, arg := range call.Args {
				if literal, ok := arg.(*ast.Ident); ok && (literal.Name == "true" || literal.Name == "false") && bools[name][i] {
					found = append(found, literalFault{path + ":" + name, fmt.Sprintf("%s:%d: %s is given %s, which does not say what it does: make two functions, or a type with two names",
						path, fset.Position(call.Pos()).Line, name, literal.Name)})
				}
			}
			return true
		})
	}
	return found
}

// boolPlaces are the places of the parameters of type bool.
func boolPlaces(parameters *ast.FieldList) (places []int) {
	at := 0
	for _, p := range parameters.List {
		for range max(1, len(p.Names)) {
			if isBool(p) {
				places = append(places, at)
			}
			at++
		}
	}
	return places
}

func isBool(parameter *ast.Field) bool {
	kind, ok := parameter.Type.(*ast.Ident)
	return ok && kind.Name == "bool"
}

// calledName is the name of the function or method that is called.
func calledName(call *ast.CallExpr) string {
	switch fn := call.Fun.(type) {
	case *ast.Ident:
		return fn.Name
	case *ast.SelectorExpr:
		return fn.Sel.Name
	}
	return ""
}

func TestFaultsOfCallsAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		source string
		want   string
	}{
		"a literal":            {"func f(a int, quick, deep bool) {}\nfunc g() { f(1, old, true) }", "f is given true"},
		"of a method":          {"func (t T) f(quick bool) {}\nfunc g() { t.x.f(false) }", "f is given false"},
		"a fact":               {"func f(quick bool) {}\nfunc g() { f(n > 1) }", ""},
		"of another type":      {"func f(a any, quick bool) {}\nfunc g() { f(true, n > 1) }", ""},
		"of another's package": {"func g() { flags.Bool(true) }", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			for _, f := range literalFaults(map[string]string{"p.go": "package p\n" + c.source}) {
				got += f.text
			}
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("faults = %q, want %q in it", got, c.want)
			}
		})
	}
}
