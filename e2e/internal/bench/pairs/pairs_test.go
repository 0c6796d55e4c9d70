// SPDX-License-Identifier: Apache-2.0

package pairs

import (
	"context"
	"os"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
)

// TestMain runs the tests in an enclosure, and the nodes, each of which is this program in one inside that.
func TestMain(m *testing.M) {
	os.Exit(rig.Main(rig.Children{Child: func([]string) int { return RunChild() }}, m.Run))
}

// The nodes themselves check that pods are pinned in time, or not at all.
func TestEachSideHasNeighpinAndIsMeasured(t *testing.T) {
	result, err := measure(t.Context(), bench.Env{Short: true, Progress: t.Output()}, sides, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(result.Rows), 2*len(sorts()); got != want {
		t.Fatalf("%d rows, want %d", got, want)
	}
	for _, row := range result.Rows {
		if row.Latency.N != sides || row.Latency.Min <= 0 {
			t.Errorf("%s has %d samples, the least %v µs; want %d", row.Name, row.Latency.N, row.Latency.Min, sides)
		}
	}
}

// Without this, a pod with pins would pass for one without.
func TestAnOrderThatFailsSaysWhy(t *testing.T) {
	n, err := startRemote(context.WithoutCancel(t.Context()), "A") // which is over when cleaning begins
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.close(); err != nil {
			t.Error(err)
		}
	})
	for _, o := range []order{{Do: "dance"}, {Do: doPin}, {Do: doStart, Pod: sort{Handler: "runc", Wish: true}}} {
		_, err := n.do(o)
		if wrong := o.Do != doPin; (err != nil) != wrong {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := n.do(order{Do: doRemove}); err != nil {
		t.Error(err)
	}
}
