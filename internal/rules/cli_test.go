// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// cli is what the binary says about itself: for each command, such as "" and
// "plugin", the long and short flags in its help.
type cli map[string][]string

// buildNeighpin builds the binary as it is now.
func buildNeighpin(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "neighpin")
	cmd := exec.Command("go", "build", "-o", binary, "./plugin")
	cmd.Dir = root(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build neighpin: %v\n%s", err, out)
	}
	return binary
}

// readCLI walks the help of a cobra program.
func readCLI(t *testing.T, binary string) cli {
	t.Helper()
	found := cli{}
	var walk func(path []string)
	walk = func(path []string) {
		out, err := exec.Command(binary, append(slices.Clone(path), "--help")...).Output()
		if err != nil {
			t.Fatalf("neighpin %s --help: %v", strings.Join(path, " "), err)
		}
		flags, commands := parseHelp(string(out))
		found[strings.Join(path, " ")] = flags
		for _, c := range commands {
			if c != "help" {
				walk(append(slices.Clone(path), c))
			}
		}
	}
	walk(nil)
	return found
}

var (
	helpFlag    = regexp.MustCompile(`(?m)^ +(?:(-\w), )? *(--[a-z][a-z0-9-]*)`)
	helpCommand = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*) +\S`)
)

func parseHelp(text string) (flags, commands []string) {
	for _, m := range helpFlag.FindAllStringSubmatch(text, -1) {
		flags = append(flags, m[2])
		if m[1] != "" {
			flags = append(flags, m[1])
		}
	}
	_, list, _ := strings.Cut(text, "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for _, m := range helpCommand.FindAllStringSubmatch(list, -1) {
		commands = append(commands, m[1])
	}
	return flags, commands
}

// check returns what is wrong with the arguments of a neighpin command line that
// a document shows, or "".
func (c cli) check(args []string) string {
	path := ""
	for _, arg := range args {
		arg = strings.Trim(arg, "[]()'\".,…")
		name, _, _ := strings.Cut(arg, "=")
		switch {
		case strings.HasPrefix(name, "-") && strings.Trim(name, "-") != "":
			if !slices.Contains(c[path], name) {
				return "neighpin " + path + " has no flag " + name
			}
		case regexp.MustCompile(`^[a-z][a-z-]*$`).MatchString(name):
			next := strings.TrimSpace(path + " " + name)
			if _, ok := c[next]; ok {
				path = next
			} else if path == "" {
				return "neighpin has no command " + name
			}
		}
	}
	return ""
}

func TestTheCheckOfCommandLinesSeesFaults(t *testing.T) {
	c := cli{
		"":                {"--help", "-h"},
		"pin":             {"--netns", "--output", "-o"},
		"completion":      {},
		"completion bash": {"--no-descriptions"},
	}
	for line, want := range map[string]string{
		"pin --netns /run/netns/x -o json":  "",
		"pin [--netns=PATH]":                "",
		"completion bash --no-descriptions": "",
		"-h":                                "",
		"pin --netn /run/netns/x":           "no flag --netn",
		"--netns x":                         "no flag --netns",
		"unpin":                             "no command unpin",
		"completion --no-descriptions":      "no flag --no-descriptions",
	} {
		got := c.check(strings.Fields(line))
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("neighpin %s: %q, want %q", line, got, want)
		}
	}
}

func TestHelpIsReadInFull(t *testing.T) {
	flags, commands := parseHelp("Use it.\n\nAvailable Commands:\n  pin         Pin --nothing\n  help        Help\n\n" +
		"Flags:\n  -o, --output string   text\n      --netns string    see --output\n")
	if want := []string{"--output", "-o", "--netns"}; !slices.Equal(flags, want) {
		t.Errorf("flags %q, want %q", flags, want)
	}
	if want := []string{"pin", "help"}; !slices.Equal(commands, want) {
		t.Errorf("commands %q, want %q", commands, want)
	}
}
