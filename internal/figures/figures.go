// SPDX-License-Identifier: Apache-2.0

// Package figures lets a test hold the figures in a document against what it has measured, so that they cannot go stale. A figure is a row
// of a table: its name in the first cell, the number in the second.
package figures

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Document is one whose figures can be checked.
type Document struct {
	path string
	rows map[string]string
}

var row = regexp.MustCompile(`(?m)^\| ([^|]+?) \| ([^|]*?) \|`)

// Read reads a document of Markdown.
func Read(t testing.TB, path string) Document {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := Document{path: path, rows: make(map[string]string)}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		d.rows[m[1]] = m[2]
	}
	return d
}

var number = regexp.MustCompile(`^[0-9][0-9,]*(?:\.[0-9]+)?`)

// Check fails the test unless the row of that name begins with a number that is within the tolerance, a share of it, of got.
func (d Document) Check(t testing.TB, name string, got, tolerance float64) {
	t.Helper()
	cell, ok := d.rows[name]
	if !ok {
		t.Errorf("%s has no row %q; it is %.4g", d.path, name, got)
		return
	}
	said, err := strconv.ParseFloat(strings.ReplaceAll(number.FindString(cell), ",", ""), 64)
	if err != nil {
		t.Errorf("%s: row %q begins with no number: %q; it is %.4g", d.path, name, cell, got)
		return
	}
	if math.Abs(said-got) > tolerance*said {
		t.Errorf("%s says of %q %s; it is %.4g", d.path, name, cell, got)
	}
}
