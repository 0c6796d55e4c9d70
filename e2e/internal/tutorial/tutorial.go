// SPDX-License-Identifier: Apache-2.0

// Package tutorial takes the tutorials of docs/ apart, so that tests can follow them word for word.
//
// A reader types what stands in the blocks of language sh, in their order and in one shell; so does [Run]. A block whose first
// line begins with [NotRun] is left out, and says there why. A block of language text that follows shows what is printed: each of
// its lines must come, and "…" in it stands for anything.
package tutorial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// NotRun begins the first line of a block that tests do not run. The rest of the line is the reason.
const NotRun = "# not run by the test: "

// Block is a fenced block of a page.
type Block struct {
	// Language is what stands behind the opening fence, such as sh or go.
	Language string
	// Text is what stands between the fences; its last line ends with a line feed.
	Text string
	// Line is the line of the opening fence, counted from 1.
	Line int
	// Shows are the lines of the text block that follows a block of sh.
	Shows []string
}

// Runs tells that a test has to run the block.
func (b Block) Runs() bool { return b.Language == "sh" && !strings.HasPrefix(b.Text, NotRun) }

// Read takes a page apart. Text blocks that show what a block of sh prints are part of that one.
func Read(page string) ([]Block, error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, fmt.Errorf("read the tutorial: %w", err)
	}
	blocks, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", page, err)
	}
	return blocks, nil
}

func parse(text string) ([]Block, error) {
	var blocks []Block
	var open *Block
	number := 0
	for line := range strings.Lines(text) {
		number++
		fence, fenced := strings.CutPrefix(strings.TrimRight(line, "\n"), "```")
		switch {
		case open == nil && fenced:
			open = &Block{Language: fence, Line: number}
		case open == nil:
		case !fenced:
			open.Text += line
		default:
			if last := len(blocks) - 1; open.Language == "text" && last >= 0 && blocks[last].Language == "sh" {
				blocks[last].Shows = append(blocks[last].Shows, strings.Split(strings.TrimSpace(open.Text), "\n")...)
			} else {
				blocks = append(blocks, *open)
			}
			open = nil
		}
	}
	if open != nil {
		return nil, fmt.Errorf("the block of line %d has no end", open.Line)
	}
	return blocks, nil
}

// Only is the text of the one block of a language.
func Only(blocks []Block, language string) (string, error) {
	var found []string
	for _, b := range blocks {
		if b.Language == language {
			found = append(found, b.Text)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("there are %d blocks of %s, want one", len(found), language)
	}
	return found[0], nil
}

// Shell is where a reader types.
type Shell struct {
	// Dir is the folder to begin in, Env the whole environment as KEY=value.
	Dir string
	Env []string
}

// Run types the blocks that run into one shell, which ends at the first command that fails, and returns all that was printed. The
// error names the line of the block that failed, or what its output lacks.
func (s Shell) Run(ctx context.Context, blocks []Block) (string, error) {
	const mark = "=== block of line "
	script := "set -euo pipefail\n"
	for _, b := range blocks {
		if b.Runs() {
			script += fmt.Sprintf("echo '%s%d'\n%s", mark, b.Line, b.Text)
		}
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.Env = s.Dir, s.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	failed := cmd.Run()

	printed := map[string]string{}
	var last string
	for part := range strings.SplitSeq(said.String(), mark) {
		last, _, _ = strings.Cut(part, "\n")
		printed[last] = part
	}
	if failed != nil {
		return said.String(), fmt.Errorf("run the block of line %s: %w", last, failed)
	}
	var errs []error
	for _, b := range blocks {
		if b.Runs() {
			errs = append(errs, b.check(printed[fmt.Sprint(b.Line)]))
		}
	}
	return said.String(), errors.Join(errs...)
}

// check compares what the block printed with what the page shows.
func (b Block) check(printed string) error {
	var errs []error
	for _, line := range b.Shows {
		if !shown(line).MatchString(printed) {
			errs = append(errs, fmt.Errorf("the block of line %d did not print %q but\n%s", b.Line, line, printed))
		}
	}
	return errors.Join(errs...)
}

// shown matches a line that a page shows: columns may be wider or narrower.
func shown(line string) *regexp.Regexp {
	var words []string
	for word := range strings.FieldsSeq(line) {
		words = append(words, strings.ReplaceAll(regexp.QuoteMeta(word), "…", ".*"))
	}
	return regexp.MustCompile(`(?m)^\s*` + strings.Join(words, `[ \t]+`) + `\s*$`)
}
