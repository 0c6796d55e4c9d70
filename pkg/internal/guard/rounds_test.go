// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestARoundThroughManySandboxesTakesLonger(t *testing.T) {
	const years = 4 * 8766 * time.Hour // as good as never
	for _, c := range []struct {
		interval  time.Duration
		sandboxes int
		want      time.Duration
	}{
		{5 * time.Minute, 0, 5 * time.Minute}, {5 * time.Minute, 250, 5 * time.Minute}, {5 * time.Minute, 251, 5*time.Minute + 1200*time.Millisecond},
		{5 * time.Minute, 10000, 200 * time.Minute}, {years, 1, years}, {years, 500, 2 * years},
	} {
		if got := roundTime(c.interval, c.sandboxes); got != c.want {
			t.Errorf("%d each %s: %v, want %v", c.sandboxes, c.interval, got, c.want)
		}
	}
}

// While the host is not heard nothing but a round finds a change, and many sandboxes make it no longer.
func TestARoundTakesNoLongerThanTheIntervalWhileTheHostIsNotHeard(t *testing.T) {
	for hears, want := range map[bool]time.Duration{true: 10 * time.Hour, false: time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			g := idle(t, Options{})
			g.tried, g.deaf = true, errDown
			if hears {
				g.deaf = nil
			}
			wards := make([]*Ward, 10*roundMany)
			for i := range wards {
				wards[i] = NewWard(&subject{})
				g.care(wards[i])
			}
			began := time.Now()
			g.round(time.Hour, wards)
			if took := time.Since(began); took < want*8/10 || took > want*12/10 {
				t.Errorf("took %s, want about %s", took, want)
			}
		})
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
