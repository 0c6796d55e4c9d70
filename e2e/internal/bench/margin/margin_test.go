// SPDX-License-Identifier: Apache-2.0

package margin

import (
	"fmt"
	"os"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(nil, m.Run)) }

func TestEveryPodIsMeasured(t *testing.T) {
	const pods, attempts = 4, 3
	var missing []string
	for range attempts { // since on a machine that stands still for a moment a pod may really be late
		result, err := measure(t.Context(), bench.Env{Short: true, Progress: t.Output()}, load{releases: []string{setup.Newest}, pods: pods, atATime: 8, busy: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(result.Rows) != 2 || len(result.Limits) != 1 {
			t.Fatalf("%d rows and %d limits", len(result.Rows), len(result.Limits))
		}
		missing = nil
		for _, row := range result.Rows {
			if row.Latency.N != pods {
				missing = append(missing, fmt.Sprintf("%s: %+v", row.Name, row.Latency))
			}
		}
		for _, limit := range result.Limits {
			if !limit.Met() {
				missing = append(missing, fmt.Sprintf("%s: %s: %v", limit.Of, limit.Figure, limit.Value))
			}
		}
		if len(missing) == 0 {
			return
		}
	}
	t.Errorf("in none of %d attempts were all pods in time and measured, at last %q", attempts, missing)
}
