// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/internal/config"
)

func TestTheStatusSaysWhichConfigurationIsInForce(t *testing.T) {
	at := time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)
	for want, conf := range map[string]config.Status{
		"configuration: in force since 2026-11-22 01:02:03 UTC (no file)\n":                           {OK: true, LoadedAt: at},
		"configuration: in force since 2026-11-22 01:02:03 UTC (/f); after a restart also: a, b\n":    {OK: true, LoadedAt: at, File: "/f", NeedsRestart: []string{"a", "b"}},
		"configuration: /f was not taken over, the one of 2026-11-22 01:02:03 UTC stays in force: \"": {LoadedAt: at, File: "/f", Error: "\x1b[2J\nbad"},
	} {
		var out strings.Builder
		if printConfig(&out, conf); !strings.HasPrefix(out.String(), want) || strings.Contains(out.String(), "\x1b") {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
}
