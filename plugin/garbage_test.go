// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"
)

// What is left lying beside what is in use is some MiB, and more only where much is in use.
func TestGarbageHasSomeRoom(t *testing.T) {
	for inUse, want := range map[uint64]int{0: 200, 2 << 20: 200, 4 << 20: 200, 5 << 20: 160, 8 << 20: 100, 18 << 20: 44, 20 << 20: 40, 1 << 30: 40} {
		if got := garbagePercent(inUse); got != want {
			t.Errorf("%d MiB in use: %d %%, want %d", inUse>>20, got, want)
		}
	}
}

// The collector follows what is in use, and no more when it is stopped.
func TestTheCollectorFollowsWhatIsInUse(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	percent := func() (set int) {
		set = debug.SetGCPercent(100)
		debug.SetGCPercent(set)
		return set
	}
	// The runtime calls back some time after a collection; each round has one.
	until := func(what string, holds func() bool) {
		t.Helper()
		timeout := time.After(time.Minute)
		for !holds() {
			select {
			case <-timeout:
				t.Fatalf("waited a minute for %s: %d %%", what, percent())
			default:
				runtime.GC()
				runtime.Gosched()
			}
		}
	}
	c := startCollector()
	until("room for garbage beside little", func() bool { return percent() >= 100 })
	much := make([][]byte, 64)
	for i := range much {
		much[i] = fmt.Appendf(make([]byte, 0, 1<<20), "%d", i)
	}
	little := func() bool { return percent() < garbageLeast*10/9 } // a tenth more may be left as it is
	until("less beside 64 MiB", little)
	runtime.KeepAlive(much) // and not beyond
	c.stop()
	var called atomic.Bool
	for range 2 { // what a collection calls, it calls before what the next one does
		called.Store(false)
		runtime.AddCleanup(&struct{ p *atomic.Bool }{}, func(b *atomic.Bool) { b.Store(true) }, &called)
		until("a collection", called.Load)
	}
	if !little() {
		t.Errorf("%d %% after the end, want what it was", percent())
	}
}
