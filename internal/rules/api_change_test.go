// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"
)

// The list is only worth something if a change shows in it, so one of each kind is made.
func TestEachChangeOfWhatWasPromisedIsSeen(t *testing.T) {
	const before = `package p
const Limit = 64
var Err error
type Kind string
const First Kind = "first"
type Box struct { Size int; inner bool }
func (b *Box) Open(name string) error { return nil }
func (b Box) close() {}
type Lid interface { Shut(hard int) error }
func Make(size int) (*Box, error) { return nil, nil }
func help() {}`
	for name, c := range map[string]struct{ old, new, want string }{
		"nothing":                 {"", "", ""},
		"a parameter's name":      {"name string", "path string", ""},
		"what is not exported":    {"inner bool", "inner, other bool", ""},
		"a constant's value":      {"64", "65", "    - const Limit untyped int = 64\n    + const Limit untyped int = 65\n"},
		"a typed constant":        {`Kind = "first"`, `Kind = "1st"`, "    + const First Kind = \"1st\"\n    - const First Kind = \"first\"\n"},
		"a variable gone":         {"var Err error", "", "    - var Err error\n"},
		"a field's type":          {"Size int", "Size int64", "    - type Box struct, Size int\n    + type Box struct, Size int64\n"},
		"a new field":             {"Size int;", "Size, Depth int;", "    + type Box struct, Depth int\n"},
		"a method's result":       {"(name string) error { return nil }", "(name string) {}", "    + method (*Box) Open(string)\n    - method (*Box) Open(string) error\n"},
		"a receiver":              {"(b *Box) Open", "(b Box) Open", "    - method (*Box) Open(string) error\n    + method (Box) Open(string) error\n"},
		"what an interface wants": {"Shut(hard int) error", "Shut(hard int)", "    - type Lid interface{Shut(hard int) error}\n    + type Lid interface{Shut(hard int)}\n"},
		"a function's parameter":  {"Make(size int)", "Make(size uint)", "    - func Make(int) (*Box, error)\n    + func Make(uint) (*Box, error)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := difference(exported(compiled(t, before)), exported(compiled(t, strings.Replace(before, c.old, c.new, 1))))
			if got != c.want {
				t.Errorf("difference:\n%swant:\n%s", got, c.want)
			}
		})
	}
}

func compiled(t *testing.T, source string) *types.Package {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := new(types.Config).Check("p", files, []*ast.File{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}
