// SPDX-License-Identifier: Apache-2.0

package podstart

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
)

// TestMain runs the tests in an enclosure, and the program whose calls are counted, which is this one.
func TestMain(m *testing.M) {
	os.Exit(rig.Main(rig.Children{Child: rig.Reporting(RunChild)}, m.Run))
}

func newBed(t *testing.T) *Bed {
	t.Helper()
	bed, err := NewBed()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bed.Close(); err != nil {
			t.Error(err)
		}
	})
	return bed
}

func newPod(t *testing.T, bed *Bed) *Pod {
	t.Helper()
	pod, err := bed.NewPod()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pod.Remove(); err != nil {
			t.Error(err)
		}
	})
	return pod
}

// What is compared has to be the same work: each contender leaves both entries, and asks or does not ask.
func TestEveryContenderDoesTheJob(t *testing.T) {
	bed := newBed(t)
	floor, err := newFloor()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = floor.Close() })
	product, err := newProduct()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = product.Close() })
	plugin := rig.Plugin()
	for _, c := range []struct {
		contender
		asks bool
	}{
		{contender{floorName, floor.pin}, false}, {contender{productName, product.pin}, false}, {contender{chainedName, chained(plugin)}, false},
		{contender{naiveName, naive}, true}, {contender{copyingName, copying}, true}, {contender{shellName, shell}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := newPod(t, bed)
			if err := pod.Check(); err == nil {
				t.Fatal("a pod that nobody has pinned passes the check")
			}
			var s series
			if err := measureOne(t.Context(), pod, c.contender, &s); err != nil {
				t.Fatal(err)
			}
			if asked := s.packets[0]; (asked >= 2) != c.asks || !c.asks && asked != 0 {
				t.Errorf("the pod has sent %v packets to ask; asking is its way: %v", asked, c.asks)
			}
		})
	}
}

// A pod that asked and pinned the answer of nobody must not pass.
func TestTheCheckSeesAWrongAddress(t *testing.T) {
	bed := newBed(t)
	pod := newPod(t, bed)
	wrong := contender{"wrong", func(ctx context.Context, path string) error {
		if err := naive(ctx, path); err != nil {
			return err
		}
		list, err := defaultGateways(pod.Links)
		if err != nil {
			return err
		}
		list[0].HardwareAddr = []byte{2, 0, 0, 0, 0, 1}
		return pod.Links.NeighSet(&list[0])
	}}
	if err := measureOne(t.Context(), pod, wrong, &series{}); err == nil || !strings.Contains(err.Error(), "02:00:00:00:00:01") {
		t.Errorf("the round ended with %v", err)
	}
}

// How many calls it takes does not depend on the machine, so that it may be said here.
func TestSystemCallsArePerPod(t *testing.T) {
	bed := newBed(t)
	for _, c := range []struct {
		name string
		most int
	}{{floorName, 16}, {productName, 64}} {
		counted, err := countCalls(t.Context(), bed, c.name, 5)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d: %s", c.name, counted.sum(), counted)
		if counted.sum() > c.most || counted["setns"] < 2 || counted["sendto"]+counted["write"] < 4 {
			t.Errorf("%s takes %d system calls, want at most %d: %s", c.name, counted.sum(), c.most, counted)
		}
	}
}

func TestATraceIsCountedBetweenItsMarks(t *testing.T) {
	const trace = `12 openat(AT_FDCWD, "/before", O_RDONLY) = 3
12 faccessat(AT_FDCWD, "/neighpin-bench-begins", F_OK) = -1 ENOENT
12 openat(AT_FDCWD, "/run/pod-1", O_RDONLY) = 3
13 setns(3, CLONE_NEWNET <unfinished ...>
12 futex(0xc000, FUTEX_WAIT_PRIVATE, 0, NULL) = 0
13 <... setns resumed>) = 0
13 close(3) = 0
12 faccessat(AT_FDCWD, "/neighpin-bench-ends", F_OK) = -1 ENOENT
12 close(4) = 0
`
	got := parseTrace([]byte(trace))
	if len(got) != 1 || got[0].String() != "close 1, openat 1, setns 1" {
		t.Errorf("parsed: %v", got)
	}
}
