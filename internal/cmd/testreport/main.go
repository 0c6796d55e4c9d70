// SPDX-License-Identifier: Apache-2.0

// Command testreport reads the events of `go test -json` from stdin and prints
// what a person wants to know: a line per package, the slow tests as they end,
// the whole output of those that fail, what a package's TestMain says after
// "figure: ", and the totals.
//
//	go test -json ./... | testreport [-v] [-totals FILE]
//
// It exits 1 if a test failed or a package did not build, and, for root, also if
// a test was skipped: root can do all that the tests need, so a skip would hide
// that something was not tested.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Geteuid() == 0))
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer, root bool) int {
	flags := flag.NewFlagSet("testreport", flag.ContinueOnError)
	flags.SetOutput(stderr)
	verbose := flags.Bool("v", false, "print all output as it comes")
	totals := flags.String("totals", "", "append the totals to this `file`: passed, failed, skipped, separated by blanks")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "testreport: unexpected argument %q\n", flags.Arg(0))
		return 2
	}

	r := newReport(stdout, *verbose)
	if err := r.read(stdin); err != nil {
		fmt.Fprintln(stderr, "testreport:", err)
		return 1
	}
	ok := r.finish(root)
	if *totals != "" {
		if err := r.appendTotals(*totals); err != nil {
			fmt.Fprintln(stderr, "testreport:", err)
			return 1
		}
	}
	if !ok {
		return 1
	}
	return 0
}
