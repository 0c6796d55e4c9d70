// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

// slow is from how many seconds on a passed test gets a line of its own.
const slow = 1.0

// figure begins a line of a package's own output, such as its TestMain prints,
// that is shown also when all is well: something measured.
const figure = "figure: "

// last is how many of the lines that a failed test logged are told again at the end, and longest of how many bytes each: enough to know
// what happened from the end of a long log.
const (
	last    = 4
	longest = 400
)

// event is one line of `go test -json` (go doc test2json, go help buildjson).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build events
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

// name identifies a test among all packages; a package's own name has no test.
type name struct{ pkg, test string }

// report collects one run's events. It is not safe for concurrent use.
type report struct {
	out     io.Writer
	verbose bool

	output                  map[name][]string
	passed, failed, skipped int
	skips, failures         []string
	packages                int
}

func newReport(out io.Writer, verbose bool) *report {
	return &report{out: out, verbose: verbose, output: map[name][]string{}}
}

// read takes events until the end of input.
func (r *report) read(input io.Reader) error {
	lines := bufio.NewReader(input)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil || e.Action == "" {
				// Not from test2json: what go itself has to say.
				fmt.Fprint(r.out, string(line))
			} else {
				r.take(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read test events: %w", err)
		}
	}
}

func (r *report) take(e event) {
	n := name{e.Package, e.Test}
	switch e.Action {
	case "output":
		if r.verbose {
			fmt.Fprint(r.out, e.Output)
		}
		if line, measured := strings.CutPrefix(e.Output, figure); measured && e.Test == "" && !r.verbose {
			fmt.Fprint(r.out, "      ", line)
			return
		}
		r.output[n] = append(r.output[n], e.Output)
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "build-fail":
		r.failures = append(r.failures, "build "+e.ImportPath)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(n, e)
		} else {
			r.endTest(n, e)
		}
		delete(r.output, n)
	}
}

func (r *report) endTest(n name, e event) {
	full := e.Package + " " + e.Test
	switch e.Action {
	case "pass":
		r.passed++
		if !strings.Contains(e.Test, "/") && e.Elapsed >= slow {
			fmt.Fprintf(r.out, "      pass  %-60s %7.1f s\n", e.Test, e.Elapsed)
		}
	case "skip":
		r.skipped++
		r.skips = append(r.skips, full)
		fmt.Fprintf(r.out, "      skip  %s\n", full)
		r.replay(n)
	case "fail":
		r.failed++
		r.failures = append(r.failures, full+r.lastWords(n))
		fmt.Fprintf(r.out, "      FAIL  %s %.1f s\n", full, e.Elapsed)
		r.replay(n)
	}
}

func (r *report) endPackage(n name, e event) {
	r.packages++
	switch e.Action {
	case "fail":
		fmt.Fprintf(r.out, "FAIL  %-66s %7.1f s\n", e.Package, e.Elapsed)
		// A package can fail without a test: a panic, a leak found in TestMain, a
		// deadline. What it said then stands in its own output, and in that of
		// the tests that were running.
		r.failures = append(r.failures, "package "+e.Package)
		for running := range r.output {
			if running.pkg == n.pkg {
				r.replay(running)
			}
		}
	case "skip":
		fmt.Fprintf(r.out, "none  %s\n", e.Package)
	default:
		fmt.Fprintf(r.out, "ok    %-66s %7.1f s\n", e.Package, e.Elapsed)
		r.replayRemarks(n)
	}
}

// lastWords are the last lines with a file's name that a test logged, each after a line break: its errors, and where it keeps more.
func (r *report) lastWords(n name) string {
	located := regexp.MustCompile(`^\s+\S+\.go:\d+: `)
	var words []string
	for _, line := range slices.Backward(r.output[n]) {
		if !located.MatchString(line) {
			continue
		}
		if line = strings.TrimSpace(line); len(line) > longest {
			line = strings.ToValidUTF8(line[:longest], "") + " …"
		}
		if words = append(words, "\n    "+line); len(words) == last {
			break
		}
	}
	slices.Reverse(words)
	return strings.Join(words, "")
}

// replay prints what was held back, unless it was printed as it came.
func (r *report) replay(n name) {
	if r.verbose {
		return
	}
	for _, line := range r.output[n] {
		fmt.Fprint(r.out, "            ", line)
	}
}

// replayRemarks prints what a package itself has to say although all passed, such
// as what it measured: its output without go test's own lines.
func (r *report) replayRemarks(n name) {
	if r.verbose {
		return
	}
	for _, line := range r.output[n] {
		text := strings.TrimSpace(line)
		if text == "" || text == "PASS" || strings.HasPrefix(line, "ok  \t") {
			continue
		}
		fmt.Fprint(r.out, "            ", line)
	}
}

// finish prints the totals and tells whether all is well.
func (r *report) finish(root bool) bool {
	fmt.Fprintf(r.out, "total: %d tests passed, %d failed, %d skipped in %d packages\n",
		r.passed, r.failed, r.skipped, r.packages)
	ok := len(r.failures) == 0
	for _, f := range r.failures {
		fmt.Fprintln(r.out, "failed:", f)
	}
	if root && len(r.skips) > 0 {
		ok = false
		fmt.Fprintf(r.out, "failed: root can run every test, so none may be skipped: %s\n", strings.Join(r.skips, ", "))
	}
	if r.packages == 0 {
		ok = false
		fmt.Fprintln(r.out, "failed: no package was tested")
	}
	return ok
}

func (r *report) appendTotals(path string) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) // #nosec G304 -- the caller's own file
	if err != nil {
		return fmt.Errorf("open the totals: %w", err)
	}
	_, err = fmt.Fprintln(file, r.passed, r.failed, r.skipped)
	return errors.Join(err, file.Close())
}
