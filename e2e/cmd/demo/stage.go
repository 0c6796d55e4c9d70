// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// stage is where the demo speaks.
type stage struct {
	out   io.Writer
	color bool
}

// colorful tells that a person looks on who has not asked for plain text.
func colorful() bool {
	info, err := os.Stdout.Stat()
	_, plain := os.LookupEnv("NO_COLOR")
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && !plain
}

const (
	bold  = "1"
	green = "32"
	amber = "33"
	dim   = "2"
)

func (s stage) paint(code, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// title begins a part.
func (s stage) title(text string) {
	fmt.Fprintf(s.out, "\n%s\n", s.paint(bold, "== "+text))
}

// say is one sentence.
func (s stage) say(format string, args ...any) {
	fmt.Fprintf(s.out, "   %s\n", fmt.Sprintf(format, args...))
}

// evidence is what a program printed or the wire carried.
func (s stage) evidence(code, text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		fmt.Fprintf(s.out, "     %s %s\n", s.paint(dim, "|"), s.paint(code, strings.TrimRight(line, "\n")))
	}
}

// verdict closes an act.
func (s stage) verdict(code, text string) {
	fmt.Fprintf(s.out, "   %s\n", s.paint(code, "=> "+text))
}
