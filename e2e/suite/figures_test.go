// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/node"
)

// alone is the circumstance of pods whose test says nothing else.
const alone = "one pod at a time"

// figures are what all tests of a run measured. Lines that begin with "figure: " are shown by `make test`
// also when all is well.
type figures struct {
	mu           sync.Mutex
	circumstance string
	pods, inTime int
	smallest     pinned
	pins         map[string][]float64 // milliseconds from the CNI result to the pin, by circumstance
	order        []string             // the circumstances as they came
	memory       []string
}

// pinned is a pod that was in time.
type pinned struct {
	pod, circumstance string
	marginMs          float64
}

// under names the circumstance that the pods of the test run in.
func under(t *testing.T, circumstance string) {
	t.Helper()
	bed.figures.set(circumstance)
	t.Cleanup(func() { bed.figures.set("") })
}

func (f *figures) set(circumstance string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.circumstance = circumstance
}

// add counts a pod that should have been in time; one without a gateway that could be pinned cannot be.
func (f *figures) add(pod *node.Pod, timing node.Timing) {
	if timing.Verdict == "nothing" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pods++
	if timing.Verdict != "inTime" {
		return
	}
	f.inTime++
	circumstance := cmp.Or(f.circumstance, alone)
	if f.smallest.pod == "" || timing.MarginMs < f.smallest.marginMs {
		f.smallest = pinned{pod.Namespace + "/" + pod.Name, circumstance, timing.MarginMs}
	}
	if timing.ResultToPinMs == 0 {
		return // NRI was quicker with the news than the store
	}
	if f.pins == nil {
		f.pins = map[string][]float64{}
	}
	if _, known := f.pins[circumstance]; !known {
		f.order = append(f.order, circumstance)
	}
	f.pins[circumstance] = append(f.pins[circumstance], timing.ResultToPinMs)
}

// addMemory notes what the daemon uses now.
func (f *figures) addMemory(when string, d *node.Daemon) error {
	memory, err := d.Memory()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.memory = append(f.memory, fmt.Sprintf("%s: VmRSS %d kB, VmHWM %d kB", when, memory.ResidentKB, memory.PeakKB))
	return nil
}

func (f *figures) print(w io.Writer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pods > 0 {
		fmt.Fprintf(w, "figure: pods in time: %d of %d\n", f.inTime, f.pods)
	}
	if f.inTime > 0 {
		fmt.Fprintf(w, "figure: smallest margin: %.1f ms (pod %q, %s)\n", f.smallest.marginMs, f.smallest.pod, f.smallest.circumstance)
	}
	for _, circumstance := range f.order {
		pins := f.pins[circumstance]
		fmt.Fprintf(w, "figure: from the CNI result to the acknowledged pin, %s: p50 %.2f ms, p99 %.2f ms, of %d\n",
			circumstance, quantile(pins, 0.50), quantile(pins, 0.99), len(pins))
	}
	for _, memory := range f.memory {
		fmt.Fprintf(w, "figure: memory of the daemon %s\n", memory)
	}
}

// quantile is the value below which about the share q of all values lies.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
