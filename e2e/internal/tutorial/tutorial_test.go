// SPDX-License-Identifier: Apache-2.0

package tutorial

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const page = "# How\n\n```sh\nname=web\n```\n\n```text\n```\n\n```sh\n# not run by the test: it has no printer\nlpr x\n```\n\nThen:\n\n" +
	"```sh\necho \"pod   $name is 12 ms old\"\n```\n\n```text\npod web is … ms old\n```\n\n```go\npackage main\n```\n"

func follow(t *testing.T, page string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	blocks, err := Read(file)
	if err != nil {
		return "", err
	}
	return Shell{Dir: t.TempDir(), Env: os.Environ()}.Run(t.Context(), blocks)
}

func TestPagesAreFollowedInOneShell(t *testing.T) {
	said, err := follow(t, page)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said, "pod   web is 12 ms old") || strings.Contains(said, "lpr") {
		t.Errorf("the shell said %q", said)
	}
}

func TestFaultsOfPagesAreSeen(t *testing.T) {
	for want, faulty := range map[string]string{
		"line 17":         strings.Replace(page, "echo", "false; echo", 1),
		"did not print":   strings.Replace(page, "… ms old", "… years old", 1),
		"has no end":      page + "```sh\n",
		"unbound":         strings.Replace(page, "name=web", "nome=web", 1),
		"block of line 3": strings.Replace(page, "name=web", "exit 3", 1),
	} {
		said, err := follow(t, faulty)
		if err == nil || !strings.Contains(err.Error()+said, want) {
			t.Errorf("want an error with %q, got %v; the shell said %q", want, err, said)
		}
	}
}

func TestOnlyOneBlockIsTheProgram(t *testing.T) {
	blocks, err := parse(page)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Only(blocks, "go"); err != nil || got != "package main\n" {
		t.Errorf("the program is %q, %v", got, err)
	}
	if _, err := Only(blocks, "sh"); err == nil {
		t.Error("one of three blocks of sh is taken for the program")
	}
}
