// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// lowMAC is lower than any that the kernel draws.
const lowMAC = "02:00:00:00:00:01"

// lowPort makes a port with the lowest MAC, which becomes the bridge's, and waits until it is. The function returned takes the port
// away and waits until the bridge's MAC is another.
func lowPort(t *testing.T) (remove func()) {
	t.Helper()
	ip(t, "link", "add", "low0", "address", lowMAC, "type", "veth", "peer", "name", "low1")
	ip(t, "link", "set", "low0", "up", "master", datapath.SegmentLink)
	awaitBridgeMAC(t, true)
	return func() {
		t.Helper()
		ip(t, "link", "delete", "low0")
		awaitBridgeMAC(t, false)
	}
}

func awaitBridgeMAC(t *testing.T, low bool) {
	t.Helper()
	err := await.Within(t.Context(), patience, "the bridge's MAC to change", func() error {
		if mac := bridgeMAC(t); (mac == lowMAC) != low {
			return fmt.Errorf("it is %s", mac)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// whileConnecting calls change so many times while the pod connects to the targets again and again; it returns how many connections
// that were.
func (r *rowRun) whileConnecting(t *testing.T, changes int, change func()) (connections int) {
	t.Helper()
	targets := slices.Repeat(node.Targets(), 25)
	stopped, done := make(chan struct{}), make(chan error, 1)
	stop := sync.OnceFunc(func() { close(stopped) })
	defer stop() // also where change ends the test
	go func() {
		for {
			if err := r.connects(t, "connect", targets...); err != nil {
				done <- err
				return
			}
			connections += len(targets)
			select {
			case <-stopped:
				done <- nil
				return
			default:
			}
		}
	}()
	for range changes {
		change()
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return connections
}

// The bridge's MAC is that of its lowest port, and nobody tells the pods when it changes.
func TestRowBridge(t *testing.T) {
	spec := rowSpec{name: "bridge", before: func(t *testing.T, _ *rowRun) { makeBridge(t, segmentPrefixes...) }}
	row(t, spec, func(t *testing.T, r *rowRun) {
		mac := r.hostEnd(t)
		r.pinned(t, both(truth{mac, "port"}))
		r.skipped(t, map[string]string{})
		const ports = 50
		connections := r.whileConnecting(t, ports, func() { lowPort(t)() })
		t.Logf("the bridge's MAC changed %d times while the pod connected %d times", 2*ports, connections)
		r.silent(t, segmentGateways...)

		before := r.sandbox.Repins
		r.refresh(t)
		r.pinned(t, both(truth{mac, "port"}))
		if r.sandbox.Repins != before {
			t.Errorf("%d repairs, %d before; want none, since nothing that matters changed", r.sandbox.Repins, before)
		}
	})
}

// A pod that has learned the bridge's MAC loses its gateways with the port that had lent it.
func TestRowBridgeControl(t *testing.T) {
	var remove func()
	spec := rowSpec{name: "bridge", control: true, before: func(t *testing.T, _ *rowRun) {
		makeBridge(t, segmentPrefixes...)
		remove = lowPort(t)
	}}
	row(t, spec, func(t *testing.T, r *rowRun) {
		r.reaches(t, node.Targets()...)
		for _, gateway := range segmentGateways {
			if len(r.asked(gateway)) == 0 {
				t.Errorf("nobody asked for %s", gateway)
			}
		}
		remove()
		if err := r.try(t, node.Targets()[0]); err == nil {
			t.Error("the pod still reaches its gateway; that it does when pinned proves nothing")
		} else {
			t.Logf("after the change: %v", err)
		}
	})
}

// CNI's own plugin, which makes the veth from inside the pod, and gives the bridge a MAC for good.
func TestRowBridgeCNI(t *testing.T) {
	spec := rowSpec{name: "bridge-cni", before: func(t *testing.T, _ *rowRun) {
		t.Cleanup(func() { ip(t, "link", "delete", datapath.SegmentLink) })
	}}
	row(t, spec, func(t *testing.T, r *rowRun) {
		r.pinned(t, both(truth{r.hostEnd(t), "port"}))
		r.skipped(t, map[string]string{})
		r.reaches(t, node.Targets()...)
		r.silent(t, segmentGateways...)
	})
}
