// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// How much garbage may come to lie beside what is in use before it is collected: some
// MiB, but no more than twice what is in use; or a part of that where that is more. Go's
// own rule is as much as is in use, and its least heap is 4 MiB at 100 percent, more at
// more (runtime/mgcpacer.go). A daemon that holds little would then collect, all of it,
// while a few pods start, which takes the processor from them; one that holds ten
// thousand sandboxes would keep for itself what a burst at the start took.
const (
	garbageRoom  = 8 << 20 // bytes
	garbageLeast = 40      // percent of what is in use
	garbageMost  = 200
)

// garbagePercent is what that comes to, as GOGC has it, with so many bytes in use.
func garbagePercent(inUse uint64) int {
	return int(min(max(garbageRoom*100/max(inUse, 1), garbageLeast), garbageMost))
}

// collector has Go's collector follow that, from one collection to the next.
type collector struct {
	percent int
	ended   atomic.Bool
}

// startCollector begins it. It costs a call after each collection, which Go's runtime
// makes, one at a time.
func startCollector() *collector {
	c := &collector{}
	c.adapt()
	c.arm()
	return c
}

// stop ends it, and leaves the collector as it is then.
func (c *collector) stop() { c.ended.Store(true) }

// arm has what follows called when the next collection has ended.
func (c *collector) arm() {
	type sentinel struct{ self *collector } // a pointer makes it an allocation of its own (runtime.AddCleanup)
	runtime.AddCleanup(&sentinel{c}, func(c *collector) {
		if !c.ended.Load() {
			c.adapt()
			c.arm()
		}
	}, c)
}

// adapt changes what is set where that is off by more than a tenth.
func (c *collector) adapt() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}} // at the end of the last collection
	metrics.Read(live)
	percent := garbagePercent(live[0].Value.Uint64())
	if off := percent - c.percent; max(off, -off)*10 > c.percent {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
}
