// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/neighpin/neighpin/internal/figures"
)

// manifest reads a number of the DaemonSet as it is installed.
func manifest(t *testing.T, pattern string) int {
	t.Helper()
	text, err := os.ReadFile("../../deploy/install.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(pattern).FindSubmatch(text)
	if found == nil {
		t.Fatalf("the manifest has no %s", pattern)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRollingUpdatesTakeWhatTheDocumentSays(t *testing.T) {
	const nodes = 5000
	r := Rollout{
		Nodes: nodes, Requests: 20, ImageMiB: 7.7, NodeMiB: 20, RegistryMiB: 100, Start: 1500 * time.Millisecond,
		Delay:  time.Duration(manifest(t, `(?s)readinessProbe:.*?initialDelaySeconds: (\d+)`)) * time.Second,
		Period: time.Duration(manifest(t, `(?s)readinessProbe:.*?periodSeconds: (\d+)`)) * time.Second,
	}
	doc := figures.Read(t, "../../docs/scale.md")
	doc.Check(t, "`maxSurge` as it is installed", float64(manifest(t, `maxSurge: (\d+)`)), 0)
	if n := manifest(t, `maxUnavailable: (\d+)`); n != 0 {
		t.Errorf("%d nodes may be without neighpin during an update", n)
	}
	for _, c := range []struct {
		name  string
		surge int
	}{{"an update with `maxSurge: 1`", 1}, {"an update with `maxSurge: 1%`", nodes / 100}, {"an update with `maxSurge: 10%`", nodes / 10}} {
		r.Surge = c.surge
		out := r.Run(1)
		t.Logf("%s: %v, %d pull at once, %.1f MiB/s", c.name, out.Took.Round(time.Minute), out.Pulling, out.Rate)
		doc.Check(t, c.name, out.Took.Hours(), 0.05)
		if c.surge == nodes/10 {
			doc.Check(t, "nodes that pull at once then", float64(out.Pulling), 0.1)
		}
	}
	doc.Check(t, "pulled from the registry, GiB", r.ImageMiB*nodes/1024, 0.02)
}

// What the simulation is made of: one node at a time takes the sum of its parts, and requests are a limit that no surge passes.
func TestTheSimulationAddsUp(t *testing.T) {
	r := Rollout{Nodes: 10, Surge: 1, Requests: 1000, ImageMiB: 10, NodeMiB: 10, RegistryMiB: 100, Delay: 4 * time.Second}
	if took := r.Run(1).Took.Seconds(); took < 50 || took > 50.1 {
		t.Errorf("ten nodes of five seconds took %.2f s", took)
	}
	r.Surge = 10
	if out := r.Run(1); out.Took.Seconds() > 5.1 || out.Pulling != 10 || out.Rate != 100 {
		t.Errorf("ten at once: %+v", out)
	}
	r.Requests = 1
	if took := r.Run(1).Took.Seconds(); took < 10 {
		t.Errorf("ten pods were made in %.2f s at one a second", took)
	}
	r.Requests, r.RegistryMiB = 1000, 10
	if took := r.Run(1).Took.Seconds(); took < 10 {
		t.Errorf("a registry that is ten nodes' narrow place was passed in %.2f s", took)
	}
}
