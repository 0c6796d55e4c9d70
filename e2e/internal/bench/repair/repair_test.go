// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
)

// TestMain runs the tests in an enclosure.
func TestMain(m *testing.M) { os.Exit(rig.Main(nil, m.Run)) }

// Every pod's table is read after each round.
func TestAllPodsFollowTheirGateway(t *testing.T) {
	const pods, rounds = 20, 2
	result, err := run(t.Context(), bench.Env{Progress: io.Discard}, pods, rounds)
	if err != nil {
		t.Fatal(err)
	}
	row, err := result.Row(podsName)
	if err != nil || row.Latency.N != pods*rounds {
		t.Errorf("%d pods were repaired, want %d; %v", row.Latency.N, pods*rounds, err)
	}
}

// A pod that was left out, or pinned with another address, must be seen.
func TestTheCheckSeesAPodThatDidNotFollow(t *testing.T) {
	s, err := newSegment(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.check(address(1)); err == nil || !strings.Contains(err.Error(), "0 pinned") {
		t.Errorf("a pod without pins: %v", err)
	}
}
