// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"os"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(nil, m.Run)) }

// Every step checks what neighpin knows and what it has pinned; of the figures only those are asserted that do not depend
// on the machine.
func TestFewSandboxesAreMeasured(t *testing.T) {
	result, err := run(t.Context(), bench.Env{Short: true, Progress: t.Output()}, []int{5, 20})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Rows) != 5 || len(result.Chart.Lines) != 3 {
		t.Fatalf("rows %+v, chart %+v", result.Rows, result.Chart)
	}
	for _, row := range result.Rows[1:3] {
		if row.Latency.N != 40 {
			t.Errorf("%s: %d repairs", row.Name, row.Latency.N)
		}
	}
	for _, limit := range result.Limits {
		if limit.Figure == "descriptors beyond those without" && !limit.Met() {
			t.Errorf("%s: %v", limit.Of, limit.Value)
		}
	}
	if _, err := os.Stat(home); err == nil {
		t.Error("something is left")
	}
}
