// SPDX-License-Identifier: Apache-2.0

package nritrip

import (
	"os"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
)

// TestMain runs the tests in an enclosure, and the empty plugin, which is this program.
func TestMain(m *testing.M) {
	os.Exit(rig.Main(rig.Children{Child: rig.Reporting(RunChild)}, m.Run))
}

// The section itself checks every answer, and that both plugins were asked as often.
func TestBothPluginsAreAskedAndAnswerRightly(t *testing.T) {
	known := []int{0, 20}
	const rounds, laps = 2, 3
	result, err := measure(t.Context(), bench.Env{Short: true, Progress: t.Output()}, known, rounds, laps)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(result.Rows), len(events())*kinds*len(known); got != want {
		t.Errorf("%d rows, want %d", got, want)
	}
	for _, row := range result.Rows {
		if row.Latency.N != rounds*batch*laps {
			t.Errorf("%s has %d samples, want %d of each pod", row.Name, row.Latency.N, laps)
		}
	}
	for _, ratio := range result.Ratios {
		if ratio.Ratio <= 0 || ratio.Bar == 0 {
			t.Errorf("a ratio without figures: %+v", ratio)
		}
	}
}

// An answer that is not what it should be must not pass.
func TestTheCheckSeesWrongAnswers(t *testing.T) {
	p := &pod{kind: selected}
	if err := checkAnswer(p, true, nil); err == nil {
		t.Error("a selected pod without the annotation passes")
	}
	p.kind = unselected
	if err := checkAnswer(p, true, nil); err != nil {
		t.Error(err)
	}
}
