// SPDX-License-Identifier: Apache-2.0

// Command coverage reads a profile of `go test -coverprofile` and prints what part of
// each package's statements the tests reach, and of all of them together.
//
//	go test -coverpkg ./... -coverprofile FILE ./... && coverage [-least PERCENT] [-v] FILE
//
// It exits 1 if a package is below the least, and with -v names the lines that no
// test reaches. With -coverpkg a statement counts whichever package's test reaches it.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("coverage", flag.ContinueOnError)
	flags.SetOutput(stderr)
	least := flags.Float64("least", 0, "exit 1 if a package is below this `percent`")
	verbose := flags.Bool("v", false, "name the lines that no test reaches")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() != 1 {
		fmt.Fprintln(stderr, "coverage: want the name of one profile")
		return 2
	}
	file, err := os.Open(flags.Arg(0))
	if err != nil {
		fmt.Fprintln(stderr, "coverage:", err)
		return 1
	}
	defer func() { _ = file.Close() }()
	blocks, err := read(file)
	if err != nil {
		fmt.Fprintln(stderr, "coverage:", err)
		return 1
	}
	code := report(stdout, blocks, *least)
	if *verbose {
		reportUnreached(stdout, blocks)
	}
	return code
}

// block is some statements that run together.
type block struct {
	pkg, lines string // lines: file:from-to
	statements int
	reached    bool
}

// read parses a profile (golang.org/x/tools/cover has the same): after a line with the
// mode, FILE:LINE.COLUMN,LINE.COLUMN STATEMENTS COUNT.
// Each test's program writes all blocks that it could have reached.
func read(profile io.Reader) (blocks []block, err error) {
	seen := map[string]int{} // place: index in blocks
	scanner := bufio.NewScanner(profile)
	for scanner.Scan() {
		if strings.HasPrefix(scanner.Text(), "mode:") {
			continue
		}
		var place string
		var statements, count int
		if _, err := fmt.Sscanf(scanner.Text(), "%s %d %d", &place, &statements, &count); err != nil {
			return nil, fmt.Errorf("read profile: %q: %w", scanner.Text(), err)
		}
		if i, ok := seen[place]; ok {
			blocks[i].reached = blocks[i].reached || count > 0
			continue
		}
		seen[place] = len(blocks)
		file, span, _ := strings.Cut(place, ":")
		from, to, _ := strings.Cut(span, ",")
		first, _, _ := strings.Cut(from, ".")
		last, _, _ := strings.Cut(to, ".")
		blocks = append(blocks, block{pkg: path.Dir(file), lines: file + ":" + first + "-" + last, statements: statements, reached: count > 0})
	}
	if len(blocks) == 0 && scanner.Err() == nil {
		return nil, fmt.Errorf("read profile: it has no statements")
	}
	return blocks, scanner.Err()
}

// report writes the table and returns the exit code.
func report(out io.Writer, blocks []block, least float64) (code int) {
	type sum struct{ all, reached int }
	sums := map[string]sum{}
	const total = "total"
	for _, b := range blocks {
		for _, name := range []string{b.pkg, total} {
			s := sums[name]
			s.all += b.statements
			if b.reached {
				s.reached += b.statements
			}
			sums[name] = s
		}
	}
	var names []string
	for name := range sums {
		if name != total && sums[name].all > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range append(names, total) {
		s := sums[name]
		percent := 100 * float64(s.reached) / float64(max(s.all, 1))
		line := fmt.Sprintf("%6s %%  %5d of %5d  %s", strconv.FormatFloat(percent, 'f', 1, 64), s.reached, s.all, name)
		if percent < least {
			line += fmt.Sprintf("  BELOW %g %%", least)
			code = 1
		}
		fmt.Fprintln(out, line)
	}
	return code
}

// reportUnreached names the lines that no test reaches.
func reportUnreached(out io.Writer, blocks []block) {
	for _, b := range blocks {
		if !b.reached {
			fmt.Fprintln(out, "not reached:", b.lines)
		}
	}
}
