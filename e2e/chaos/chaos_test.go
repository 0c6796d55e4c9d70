// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/spoof"
	"github.com/neighpin/neighpin/internal/nstest"
)

// floodLink is a link of the node on which nothing depends.
const floodLink = "flood0"

// Everything goes wrong at once, round after round. After each, all is as it should be; after the last, nothing is left.
func TestChaos(t *testing.T) {
	makeSegment(t)
	makeFloodLink(t)
	before, err := traces()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, "")
	fresh, err := w.fresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	form := bed.form
	for range form.gvisor {
		w.add(t, true, "", false)
	}
	for i := range form.kernel {
		w.add(t, false, "", i == 0) // the first one has no container: neighpin holds its pins in another way
	}
	for i := range form.bridged {
		w.add(t, i%2 == 1, "bridge", false)
	}
	spoofer := w.startSpoofer(t)
	random := rand.New(rand.NewPCG(bed.seed, 0))
	w.check(t, "the beginning")

	for range form.rounds - 1 {
		w.round(t, w.draw(random, form.faults, form.kills, form.pods))
	}
	if err := w.restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Like is compared with like: one and the same process, with the same pods, that has done a round of everything both times.
	w.round(t, w.draw(random, form.faults/2, 0, form.atATime))
	resident := w.resident(t)
	w.round(t, w.draw(random, form.faults, 0, form.pods))
	w.residentAgain(t, resident)

	w.figures(t, spoofer)
	w.end(t, before, fresh)
}

// round makes one round, looks at everything, and removes the pods that came.
func (w *world) round(t *testing.T, p plan) {
	t.Helper()
	begin := time.Now()
	if err := w.run(t.Context(), p, bed.form.hands, bed.form.atATime); err != nil {
		t.Errorf("a fault could not be made, or a pod did not start: %v", err)
	}
	t.Logf("%d faults, %d kills, %d pods, in %s", len(p.deeds), len(p.kills), len(p.pods), time.Since(begin))
	if err := ready(t.Context(), w.daemon()); err != nil {
		t.Fatal(err)
	}
	w.check(t, "a round")
	for _, p := range slices.Clone(w.comes) {
		if err := w.leave(t.Context(), p); err != nil {
			t.Error(err)
		}
	}
	if _, err := w.settle(t.Context(), patience); err != nil {
		t.Errorf("after its pods left: %v", err)
	}
}

// check counts what is not as it should be when there was time to mend it.
func (w *world) check(t *testing.T, after string) {
	t.Helper()
	took, err := w.settle(t.Context(), patience)
	w.looks++
	w.slowest = max(w.slowest, took)
	if err != nil {
		w.violations += max(1, len(w.look(t.Context())))
		t.Fatalf("after %s: %v", after, err)
	}
	t.Logf("all is as it should be %s after %s", took, after)
}

func makeFloodLink(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if err := ip("link", "delete", floodLink); err != nil {
			t.Error(err)
		}
	})
	err := errors.Join(ip("link", "add", floodLink, "type", "veth", "peer", "name", "flood1"), ip("link", "set", floodLink, "up"))
	if err != nil {
		t.Fatal(err)
	}
}

// startSpoofer lets a station of the segment claim both gateways until the end of the test.
func (w *world) startSpoofer(t *testing.T) *spoof.Spoofer {
	t.Helper()
	station := nstest.New(t)
	w.held = append(w.held, station.Ref())
	const port = "spoofer0"
	err := errors.Join(ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", station.Ref()),
		ip("link", "set", port, "master", datapath.SegmentLink), ip("link", "set", port, "up"))
	if err != nil {
		t.Fatal(err)
	}
	station.IP("link set eth0 up")
	var spoofer *spoof.Spoofer
	err = station.Do(func() (err error) {
		spoofer, err = spoof.Start("eth0", gateways...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(spoofer.Close(), ip("link", "delete", port)); err != nil {
			t.Error(err)
		}
	})
	return spoofer
}

// figures prints what was done and what became of it.
func (w *world) figures(t *testing.T, spoofer *spoof.Spoofer) {
	t.Helper()
	w.count("frames of the spoofer", int(spoofer.Announced()+spoofer.Answered()))
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(w.made)) {
		figuref("%6d %s", w.made[kind], kind)
		total += w.made[kind]
	}
	if spoofer.Announced() == 0 {
		t.Error("the spoofer did nothing")
	}
	said, err := logged("pins written again", "pin withdrawn", "holds a copy of a gateway's address that is not true", "what the runtime copied is true again", "somebody in the pod insists")
	if err != nil {
		t.Error(err)
	}
	for _, line := range said {
		figuref("%s", line)
	}
	figuref("looks at everything: %d; the slowest was clean after %s", w.looks, w.slowest.Round(time.Millisecond))
	figuref("violations that were not mended: %d", w.violations)
}

// end removes all pods; nothing may be left of them.
func (w *world) end(t *testing.T, before trace, fresh map[string]int) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	if err := removeAllPods(ctx); err != nil {
		t.Error(err)
	}
	w.stays, w.comes = nil, nil
	if err := w.left(ctx, before, fresh); err != nil {
		t.Error(err)
		return
	}
	figuref("left after all pods are gone: no record, live file, status socket, namespace or descriptor")
}
