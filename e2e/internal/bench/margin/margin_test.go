// SPDX-License-Identifier: Apache-2.0

package margin

import (
	"os"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(nil, m.Run)) }

func TestEveryPodIsMeasured(t *testing.T) {
	const pods = 4
	result, err := measure(t.Context(), bench.Env{Short: true, Progress: t.Output()}, load{releases: []string{setup.Newest}, pods: pods, atATime: 8, busy: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range result.Rows {
		if row.Latency.N != pods {
			t.Errorf("%s: %+v", row.Name, row.Latency)
		}
	}
	for _, limit := range result.Limits {
		if !limit.Met() {
			t.Errorf("%s: %s: %v", limit.Of, limit.Figure, limit.Value)
		}
	}
	if len(result.Rows) != 2 || len(result.Limits) != 1 {
		t.Errorf("%d rows and %d limits", len(result.Rows), len(result.Limits))
	}
}
