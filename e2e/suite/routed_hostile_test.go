// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"errors"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/node"
)

const (
	evilMAC = "02:00:00:00:00:66"
	// ourMark is neighpin's NDA_PROTOCOL, which anybody may write.
	ourMark = "177"
	// madeUp is a gateway of the pod's own making.
	madeUp = "192.0.2.66"
)

// attacker runs a container that may change the pod's network, in a pod that is otherwise as any other. gVisor's pods have no say about
// the kernel's table: these rows are for pods on it.
func attacker(t *testing.T, r *rowRun) *node.Container {
	t.Helper()
	c, err := r.pod.Run(t.Context(), node.ContainerSpec{Name: "attacker", Capabilities: []string{"NET_ADMIN"}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func attack(t *testing.T, c *node.Container, args ...string) {
	t.Helper()
	if _, err := c.Exec(t.Context(), args...); err != nil {
		t.Fatal(err)
	}
}

// toldLater checks what a container that is created now is told.
func (r *rowRun) toldLater(t *testing.T, want map[string]string) {
	t.Helper()
	later, err := r.pod.Run(t.Context(), node.ContainerSpec{Name: "later"})
	if err != nil {
		t.Fatal(err)
	}
	got := r.annotated(t, later)
	for dst, lladdr := range got {
		if want[dst] != lladdr {
			t.Errorf("a later container is told that %s is at %s", dst, lladdr)
		}
	}
	if len(got) != len(want) {
		t.Errorf("a later container is told %v, want %v", got, want)
	}
	t.Logf("a later container is told %v", got)
}

// The pod replaces our pins, under our own mark, and adds a gateway of its own with an entry of its own. Ours is what the record says: the
// pins are repaired, the mark makes nothing ours, and of the pod's gateway nobody is told.
func TestRowHostilePodAfterThePin(t *testing.T) {
	row(t, rowSpec{name: "default", only: "runc"}, func(t *testing.T, r *rowRun) {
		mac := r.hostEnd(t)
		want := map[string]truth{"10.97.0.1": {mac, "peer"}, "fd97::1": {mac, "peer"}}
		r.pinned(t, want)
		c := attacker(t, r)
		attack(t, c, "route", "203.0.113.0/24", madeUp)
		attack(t, c, "neighbor", madeUp, evilMAC, ourMark)
		attack(t, c, "neighbor", "10.97.0.1", evilMAC, ourMark)
		attack(t, c, "neighbor", "fd97::1", evilMAC, "0")
		r.becomes(t, "the repair", func() error {
			if r.sandbox.Repins == 0 {
				return errors.New("no repairs yet")
			}
			return r.moved(t, mac)
		})
		r.recorded(t, want)
		r.reaches(t, node.Targets()...)
		r.toldLater(t, map[string]string{"10.97.0.1": mac, "fd97::1": mac})
		if entry := r.entries(t)[madeUp]; entry != evilMAC {
			t.Errorf("the pod's own entry is %q: it is the pod's, and stays", entry)
		}
	})
}

// Who insists wins the table, which is the pod's after all, but nobody is told of it.
func TestRowHostilePodInsists(t *testing.T) {
	row(t, rowSpec{name: "default", only: "runc"}, func(t *testing.T, r *rowRun) {
		mac := r.hostEnd(t)
		c := attacker(t, r)
		insists := func() bool {
			for _, s := range r.sandbox.Skipped {
				if s.Dst == "10.97.0.1" && s.Reason == "Insists" {
					return true
				}
			}
			return false
		}
		const mostTimes = 3
		for n := 1; n <= mostTimes; n++ {
			attack(t, c, "neighbor", "10.97.0.1", evilMAC, ourMark)
			r.becomes(t, "the repair, or the end of repairs", func() error {
				if insists() {
					return nil
				}
				if r.sandbox.Repins < n {
					return errors.New("not repaired")
				}
				return r.moved(t, mac)
			})
			if insists() != (n == mostTimes) {
				t.Fatalf("after %d times: skipped %+v", n, r.sandbox.Skipped)
			}
		}
		r.recorded(t, map[string]truth{"fd97::1": {mac, "peer"}})
		r.toldLater(t, map[string]string{"fd97::1": mac})
		if entry := r.entries(t)["10.97.0.1"]; entry != evilMAC {
			t.Errorf("the entry is %q, want the pod's", entry)
		}
	})
}

// The pod was there before neighpin, and so were its entries: under our own mark, and for a gateway of its own. None of them is taken for
// ours, or for the CNI's.
func TestRowHostilePodBeforeThePin(t *testing.T) {
	row(t, rowSpec{name: "default", only: "runc", control: true}, func(t *testing.T, r *rowRun) {
		mac := r.hostEnd(t)
		c := attacker(t, r)
		attack(t, c, "route", "203.0.113.0/24", madeUp)
		attack(t, c, "neighbor", madeUp, evilMAC, ourMark)
		attack(t, c, "neighbor", "10.97.0.1", evilMAC, ourMark)

		r.d = startDaemon(t)
		r.becomes(t, "the other gateway to be pinned", func() error {
			if len(r.sandbox.Neighbors) == 0 {
				return errors.New("nothing is")
			}
			return nil
		})
		r.recorded(t, map[string]truth{"fd97::1": {mac, "peer"}})
		r.skipped(t, map[string]string{"10.97.0.1": "Contested", madeUp: "Contested"})
		r.toldLater(t, map[string]string{"fd97::1": mac})
		for dst, want := range map[string]string{"10.97.0.1": evilMAC, madeUp: evilMAC, "fd97::1": mac} {
			if entry := r.entries(t)[dst]; entry != want {
				t.Errorf("the entry of %s is %q, want %q", dst, entry, want)
			}
		}
	})
}
