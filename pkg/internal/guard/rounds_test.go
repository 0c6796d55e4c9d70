// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"testing"
	"time"
)

func TestARoundThroughManySandboxesTakesLongerOnlyWhileTheHostIsHeard(t *testing.T) {
	for _, tc := range []struct {
		sandboxes int
		heard     bool
		want      time.Duration
	}{
		{0, true, 5 * time.Minute}, {250, true, 5 * time.Minute}, {10000, true, 200 * time.Minute}, {10000, false, 5 * time.Minute},
	} {
		if got := roundTime(5*time.Minute, tc.sandboxes, tc.heard); got != tc.want {
			t.Errorf("%d, heard %v: %v, want %v", tc.sandboxes, tc.heard, got, tc.want)
		}
	}
}

// Every sandbox has its turn, once in each round, and one that is gone has none.
func TestARoundGoesThroughAll(t *testing.T) {
	g := idle(t, Options{})
	var all []*Ward
	for range 2500 {
		w := NewWard(&subject{})
		g.care(w)
		all = append(all, w)
	}
	g.Drop(all[0])
	g.round(time.Millisecond, all)
	if len(g.patient) != len(all)-1 {
		t.Errorf("%d are to be compared, want %d", len(g.patient), len(all)-1)
	}
}
