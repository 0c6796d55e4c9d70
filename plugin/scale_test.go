// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/internal/eventlog"
	"github.com/neighpin/neighpin/internal/figures"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// What a pod's start and end, and a change of its gateway's address, write into the log as it is by default.
func TestTheLogGrowsAsTheDocumentSays(t *testing.T) {
	const nodes, pods = 5000, 250
	neighbors := []neighbor.Neighbor{
		{Dst: netip.MustParseAddr("169.254.1.1"), LLAddr: "ee:ee:ee:ee:ee:ee", Dev: "eth0", Source: neighbor.SourcePeer},
		{Dst: netip.MustParseAddr("fe80::ecee:eeff:feee:eeee"), LLAddr: "ee:ee:ee:ee:ee:ee", Dev: "eth0", Source: neighbor.SourcePeer},
	}
	rec := record.Record{
		ID: strings.Repeat("5a", 32), Namespace: "shop", Name: "web-6c8f9d7b5-x7k2p", UID: "4c3f7d52-5d0e-4b8e-9a43-000000000001", Handler: "runsc",
		Neighbors: neighbors, Timing: record.Timing{Verdict: record.InTime, MarginMs: 61.5},
	}
	var out strings.Builder
	r := eventlog.New(newLogger(&out, config.Default()))
	for _, kind := range []record.Kind{record.KindPinned, record.KindTiming, record.KindReleased} {
		r.Report(record.Event{Kind: kind, Record: rec})
	}
	life := out.Len()
	out.Reset()
	r.Report(record.Event{Kind: record.KindStale, Record: rec, Changes: []record.Change{
		{Dst: neighbors[0].Dst, Dev: "eth0", Was: "ee:ee:ee:ee:ee:ee", Now: "02:00:00:00:00:01"}, {Dst: neighbors[1].Dst, Dev: "eth0", Was: "ee:ee:ee:ee:ee:ee", Now: "02:00:00:00:00:01"},
	}})
	doc := figures.Read(t, "../docs/scale.md")
	doc.Check(t, "a pod's life in the log, bytes", float64(life), 0.1)
	doc.Check(t, "a stale copy in the log, bytes", float64(out.Len()), 0.1)
	doc.Check(t, "all pods of the cluster anew in a day, GiB of log", float64(life)*nodes*pods/(1<<30), 0.1)
	doc.Check(t, "a change of all gateways, MiB of log of one node", inMiB(out.Len()*pods), 0.1)
}

func inMiB(bytes int) float64 { return float64(bytes) / (1 << 20) }
