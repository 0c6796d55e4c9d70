// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"
)

// Documentation shows an example as a program to run only if nothing in it comes from elsewhere in the tests.
func TestEachImportablePackageHasExamplesThatStandAlone(t *testing.T) {
	for _, name := range importable {
		examples := examplesOf(t, name)
		if len(examples) == 0 {
			t.Errorf("%s has no example", name)
		}
		for _, example := range examples {
			if example.Play == nil {
				t.Errorf("%s: documentation cannot show Example%s whole: it uses names of other files", name, example.Name)
			}
			if example.Doc == "" && example.Output == "" {
				t.Errorf("%s: Example%s neither says what it is for nor shows what it prints", name, example.Name)
			}
		}
	}
}

// examplesOf are the examples of a package, and of what it exports.
func examplesOf(t *testing.T, name string) []*doc.Example {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root(t), name, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	positions := token.NewFileSet()
	var files []*ast.File
	for _, path := range paths {
		file, err := parser.ParseFile(positions, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	pkg, err := doc.NewFromFiles(positions, files, module+"/"+name)
	if err != nil {
		t.Fatal(err)
	}
	examples := pkg.Examples
	for _, f := range pkg.Funcs {
		examples = append(examples, f.Examples...)
	}
	for _, kind := range pkg.Types {
		examples = append(examples, kind.Examples...)
		for _, f := range append(kind.Funcs, kind.Methods...) {
			examples = append(examples, f.Examples...)
		}
	}
	return examples
}
