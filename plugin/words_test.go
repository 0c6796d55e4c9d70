// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// The kernel takes nearly any byte in a link's name, and a pod may name its own.
func TestNoTableObeysALinksName(t *testing.T) {
	skipped := []neighbor.Skipped{{Dst: netip.MustParseAddr("10.0.0.1"), Dev: "e\x1b[2J", Reason: neighbor.ReasonUnsafeName, Message: "\x1b[2J"}}
	rec := record.Record{Namespace: "shop", Name: "web", Skipped: skipped}
	var out strings.Builder
	printStatus(&out, status.Status{Sandboxes: []record.Record{rec}})
	printReport(&out, Report{Skipped: skipped})
	if strings.Contains(out.String(), "\x1b") || strings.Count(out.String(), `"e\x1b[2J"`) != 2 {
		t.Errorf("%q", out.String())
	}
}
