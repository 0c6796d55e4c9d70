// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

func TestAWrongFileIsToldInItsOwnWords(t *testing.T) {
	for text, want := range map[string]string{
		"handler: [x]":         `unknown field "handler"`,
		"handlers: runsc":      `handlers: string, want a list such as ["a", "b"]`,
		"compareInterval: 5":   "compareInterval: number, want a duration such as 5m",
		`compareInterval: "5"`: `"5" is no duration such as 5m`,
		`enforce: "yes"`:       "enforce: string, want true or false",
		"maxNeighbors: 1.5":    "maxNeighbors: number 1.5, want a whole number",
		"[a]":                  "the file: array, want keys with values",
	} {
		file := filepath.Join(t.TempDir(), "neighpin.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var config Config
		_, err := loader{path: file, given: config.flags(), lookupEnv: func(string) (string, bool) { return "", false }}.load("")
		if err == nil || err.Error() != "parse configuration "+file+": "+want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// The kernel takes nearly any byte in a link's name, and a pod may name its own.
func TestNoTableObeysALinksName(t *testing.T) {
	skipped := []neighbor.Skipped{{Dst: netip.MustParseAddr("10.0.0.1"), Dev: "e\x1b[2J", Reason: neighbor.ReasonUnsafeName, Message: "\x1b[2J"}}
	rec := sandbox.Record{Namespace: "shop", Name: "web", Skipped: skipped}
	var out strings.Builder
	printStatus(&out, Status{Sandboxes: []sandbox.Record{rec}})
	printReport(&out, Report{Skipped: skipped})
	if strings.Contains(out.String(), "\x1b") || strings.Count(out.String(), `"e\x1b[2J"`) != 2 {
		t.Errorf("%q", out.String())
	}
}
