// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"os"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(nil, m.Run)) }

// What the figures are of was really done, and the daemon heard of it what it should and no more.
func TestTheNoiseIsMadeAndThePodsAreCompared(t *testing.T) {
	programs, err := setup.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	// What the kernel tells now and then of links that are new.
	const some = 50
	p := plan{pods: 8, window: time.Second, rates: []float64{noisy}}
	f, err := measure(t.Context(), bench.Env{Short: true, Progress: os.Stdout}, programs.Neighpin(), p)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range []sample{f.noise[0][0], f.noise[1][0], f.noise[2][0]} {
		if s.changes < 20 || s.changes%4 != 0 || s.looks != 0 {
			t.Errorf("noise %d: %d changes led to %.0f looks", i, s.changes, s.looks)
		}
	}
	for i, s := range []sample{f.idle[0], f.idle[1], f.noise[0][0], f.noise[1][0]} {
		if s.heard > some || s.looks != 0 {
			t.Errorf("window %d: %.0f messages read, %.0f looks, though nothing happened that concerns a pod", i, s.heard, s.looks)
		}
	}
	// The control: half of the changes are entries of the pods' gateway, which are read: three messages for each that comes and goes.
	if s := f.noise[2][0]; s.heard < float64(s.changes)/2 || s.heard > float64(s.changes)+some {
		t.Errorf("%.0f messages read of %d changes, of which half are of the gateway", s.heard, s.changes)
	}
	if f.round.looks < float64(p.pods) || f.requests < 1 || f.requests > 20 {
		t.Errorf("%.0f comparisons of %d pods, each of %.1f requests", f.round.looks, p.pods, f.requests)
	}
	if f.look() <= 0 {
		t.Errorf("a comparison took %v", f.look())
	}
	hour := f.usually(p.pods)
	if hour.looks != 12*float64(p.pods) || hour.cpu <= 0 {
		t.Errorf("an hour has %.0f comparisons, want one every five minutes of each of so few, and took %v", hour.looks, hour.cpu)
	}
	result := f.result(p)
	result.Print(os.Stdout)
	if len(result.Rows) != 5 || len(result.Limits) != 3 || len(result.Chart.Lines) != 3 {
		t.Errorf("%d rows, %d limits, %d lines", len(result.Rows), len(result.Limits), len(result.Chart.Lines))
	}
}
