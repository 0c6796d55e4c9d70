// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/neighpin/neighpin/internal/config"
)

var update = flag.Bool("update", false, "write docs/reference.md instead of comparing it")

const referenceFile = "../docs/reference.md"

// TestTheReferenceIsCurrent compares docs/reference.md with the commands. "make
// reference" writes it: this is the generator, which thereby is not linked into the
// product.
func TestTheReferenceIsCurrent(t *testing.T) {
	app := &app{stdout: io.Discard, stderr: io.Discard, lookupEnv: func(string) (string, bool) { return "", false }}
	want := reference(t, app.command())
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(referenceFile, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/reference.md is not what the commands say: run make reference")
	}
}

// reference is the page of all commands.
func reference(t *testing.T, root *cobra.Command) string {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	var out strings.Builder
	out.WriteString("# Reference\n\nA page for each command, in the order of manual pages; `neighpin COMMAND --help` says the same. `make reference` writes this file from\n" +
		"the commands. [cli.md](cli.md) tells what they are for, [configuration.md](configuration.md) has the flags that set a key of the configuration.\n\n")
	var pages strings.Builder
	for _, cmd := range root.Commands() {
		if cmd.Name() == "help" {
			continue
		}
		name := cmd.CommandPath()
		fmt.Fprintf(&out, "- [%s](#%s): %s\n", name, strings.ReplaceAll(name, " ", "-"), lowered(cmd.Short))
		if cmd.Name() != "completion" && cmd.Annotations[manualExit] == "" {
			t.Errorf("%s has no manual: add one in manual.go", name)
		}
		describe(&pages, cmd)
	}
	return out.String() + pages.String()
}

// describe writes the page of a command. Sections that it has not are left out.
func describe(out *strings.Builder, cmd *cobra.Command) {
	name := cmd.CommandPath()
	fmt.Fprintf(out, "\n## %s\n\n**NAME**\n\n%s - %s\n", name, name, escaped(lowered(cmd.Short)))
	if cmd.Name() == "completion" {
		fmt.Fprintf(out, "\n**SYNOPSIS**\n\n    %s bash|zsh|fish|powershell [--no-descriptions]\n", name) // its shells are all alike
		return
	}
	fmt.Fprintf(out, "\n**SYNOPSIS**\n\n    %s\n", cmd.UseLine())
	for _, alias := range cmd.Aliases {
		fmt.Fprintf(out, "    %s\n", strings.Replace(cmd.UseLine(), cmd.Name(), alias, 1))
	}
	if cmd.Long != "" {
		fmt.Fprintf(out, "\n**DESCRIPTION**\n\n%s\n", escaped(cmd.Long))
	}
	if options := options(cmd); options != "" {
		fmt.Fprintf(out, "\n**OPTIONS**\n%s", options)
	}
	for _, section := range []struct{ title, text string }{
		{"EXIT STATUS", cmd.Annotations[manualExit]}, {"FILES", cmd.Annotations[manualFiles]}, {"EXAMPLES", cmd.Example},
	} {
		if section.text != "" {
			fmt.Fprintf(out, "\n**%s**\n\n%s\n", section.title, indented(section.text))
		}
	}
	if see := strings.TrimSpace(cmd.Annotations[manualSee]); see != "" {
		fmt.Fprintf(out, "\n**SEE ALSO**\n\n%s\n", linked(see))
	}
}

// options is the table of a command's flags.
func options(cmd *cobra.Command) string {
	defaults := config.Default()
	keys, inherited := defaults.Flags(), false
	rows := []string{}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Name == "help":
		case cmd.Flag("config") != nil && keys.Lookup(f.Name) != nil:
			inherited = true
		default:
			name := "`--" + f.Name + "`"
			if f.Shorthand != "" {
				name = "`-" + f.Shorthand + "`, " + name
			}
			value := "none"
			if f.DefValue != "" && f.DefValue != "[]" {
				value = "`" + f.DefValue + "`"
			}
			rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s |\n", name, f.Value.Type(), value, escaped(f.Usage)))
		}
	})
	var out string
	if len(rows) > 0 {
		out = "\n| flag | type | default | meaning |\n|---|---|---|---|\n" + strings.Join(rows, "")
	}
	if inherited {
		out += "\nAnd the flag of every key of the configuration.\n"
	}
	return out
}

// lowered is a short description as it stands behind a name.
func lowered(short string) string { return strings.ToLower(short[:1]) + short[1:] }

// indented makes a text a block of code, which keeps its columns.
func indented(text string) string {
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}

// linked makes links of the names of commands and pages.
func linked(names string) string {
	var links []string
	for name := range strings.SplitSeq(names, ", ") {
		target := "#" + strings.ReplaceAll(name, " ", "-")
		if page, found := strings.CutPrefix(name, "docs/"); found {
			name, target = page, page
		}
		links = append(links, fmt.Sprintf("[%s](%s)", name, target))
	}
	return strings.Join(links, ", ")
}

// escaped keeps Markdown from reading a column's end or a tag in a text.
func escaped(text string) string { return strings.NewReplacer("|", "\\|", "<", "&lt;").Replace(text) }
