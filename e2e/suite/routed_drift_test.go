// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/nsid"
)

// When the host's end gets another MAC, as udev may do, the CNI's own entries are not true any more: that is said, and no later container is
// told. But they stay the CNI's, who alone may change them.
func TestRowAWSHostEndGetsAnotherMAC(t *testing.T) {
	row(t, rowSpec{name: "aws-vpc"}, func(t *testing.T, r *rowRun) {
		awsPinned(t, r)
		before := r.entries(t) // IPv4's are gone where gVisor has taken the address

		ip(t, "link", "set", r.pod.HostLink, "address", laterMAC)
		r.becomes(t, "the status to contest the CNI's entries", func() error {
			contested := 0
			for _, s := range r.sandbox.Skipped {
				if s.Reason == "Contested" {
					contested++
				}
			}
			stale := 0
			if r.gvisor { // which has copied them
				stale = len(gateways)
			}
			if contested != len(gateways) || len(r.sandbox.Neighbors) != 0 || len(r.sandbox.Stale) != stale {
				return fmt.Errorf("%d are contested", contested)
			}
			return nil
		})
		later, err := r.pod.Run(t.Context(), node.ContainerSpec{Name: "later"})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.annotated(t, later); len(got) != 0 {
			t.Errorf("a later container is told %v", got)
		}
		if after := r.entries(t); !reflect.DeepEqual(after, before) {
			t.Errorf("the CNI's entries were %v, are %v", before, after)
		}
	})
}

// laterMAC is what a host's end gets after its pod has it pinned.
const laterMAC = "02:00:00:00:00:99"

// becomes waits until the status of the pod is what check says.
func (r *rowRun) becomes(t *testing.T, what string, check func() error) {
	t.Helper()
	err := await.Within(t.Context(), patience, what, func() error {
		r.refresh(t)
		if err := check(); err != nil {
			return fmt.Errorf("%w: neighbors %+v, skipped %+v, stale %+v", err, r.sandbox.Neighbors, r.sandbox.Skipped, r.sandbox.Stale)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("neighbors %+v, skipped %+v, stale %+v, %d repins", r.sandbox.Neighbors, r.sandbox.Skipped, r.sandbox.Stale, r.sandbox.Repins)
}

// moved says what lacks for both gateways to be pinned to a MAC, in the status and in the stack that the pod uses.
func (r *rowRun) moved(t *testing.T, lladdr string) error {
	t.Helper()
	for _, n := range r.sandbox.Neighbors {
		if n.LLAddr != lladdr {
			return fmt.Errorf("%s is at %s, want %s", n.Dst, n.LLAddr, lladdr)
		}
	}
	if used := r.used(t); len(r.sandbox.Neighbors) != len(gateways) || used["10.97.0.1"] != lladdr || used["fd97::1"] != lladdr {
		return fmt.Errorf("the pod's stack has %v, want %s", used, lladdr)
	}
	return nil
}

// udev rewrites the MAC of a host's end whose maker did not set one (MACAddressPolicy), some time after the CNI is done. Where the
// kernel's table is what the pod uses, the pins follow, at any time.
func TestRowUdevOnTheKernelsStack(t *testing.T) {
	row(t, rowSpec{name: "default", only: "runc"}, func(t *testing.T, r *rowRun) {
		for _, mac := range []string{laterMAC, "02:00:00:00:00:98"} {
			ip(t, "link", "set", r.pod.HostLink, "address", mac)
			r.becomes(t, "both gateways to be pinned to "+mac, func() error { return r.moved(t, mac) })
			r.reaches(t, node.Targets()...)
		}
		later, err := r.pod.Run(t.Context(), node.ContainerSpec{Name: "later"})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.annotated(t, later); got["10.97.0.1"] != "02:00:00:00:00:98" || got["fd97::1"] != "02:00:00:00:00:98" {
			t.Errorf("a later container is told %v", got)
		}
		if len(r.sandbox.Stale) != 0 || r.sandbox.Repins == 0 {
			t.Errorf("stale %+v, %d repins; want none stale, and the repairs counted", r.sandbox.Stale, r.sandbox.Repins)
		}
	})
}

// The MAC changes after the pin and before gVisor reads it: gVisor gets the new one. Nothing holds gVisor back meanwhile, so some pods
// may be too quick for this test; of ten one is not.
func TestRowUdevBeforeGVisorReads(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	watch := watchNeighbors(t)
	for try := range 10 {
		begin := time.Now()
		changed := make(chan error, 1)
		go func() { changed <- rewriteOncePinned(t.Context(), watch, begin) }()
		r := &rowRun{d: d, gvisor: true, wire: capture(t)}
		r.run(t, node.PodSpec{Name: fmt.Sprintf("udev-%d", try), Handler: "runsc"}, nil)
		if err := <-changed; err != nil {
			t.Fatal(err)
		}
		if used := r.used(t); used["10.97.0.1"] != laterMAC {
			t.Logf("gVisor was quicker: it has %v", used)
			continue
		}
		r.becomes(t, "both gateways to be pinned to "+laterMAC, func() error { return r.moved(t, laterMAC) })
		r.pinned(t, map[string]truth{"10.97.0.1": {laterMAC, "peer"}, "fd97::1": {laterMAC, "peer"}})
		r.reaches(t, node.Targets()...)
		r.silent(t, "10.97.0.1", "fd97::1")
		return
	}
	t.Error("gVisor was always quicker")
}

// rewriteOncePinned changes the MAC of a pod's host end when both of its gateways are pinned. The ends that have that MAC are of the pods
// before it, whose entries may still be corrected.
func rewriteOncePinned(ctx context.Context, watch *nsid.Watcher, begin time.Time) error {
	mac, err := net.ParseMAC(laterMAC)
	if err != nil {
		return err
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer handle.Close()
	return await.Within(ctx, patience, "the pins", func() error {
		seen := watch.Permanent(nsid.Anywhere, begin)
		if len(seen) < len(gateways) {
			return fmt.Errorf("seen so far: %v", seen)
		}
		links, err := handle.LinkList()
		if err != nil {
			return err
		}
		for _, link := range links {
			of := 0
			for _, event := range seen {
				if event.Namespace == link.Attrs().NetNsID {
					of++
				}
			}
			if of >= len(gateways) && strings.HasPrefix(link.Attrs().Name, "veth") && !bytes.Equal(link.Attrs().HardwareAddr, mac) {
				return handle.LinkSetHardwareAddr(link, mac)
			}
		}
		return fmt.Errorf("no link leads to where these are: %v", seen)
	})
}

// After the hand-over nobody can repair gVisor's copy, whose traffic goes nowhere: it is reported as stale, until it is true again.
func TestRowUdevAfterGVisorHasRead(t *testing.T) {
	row(t, rowSpec{name: "default", only: "gVisor"}, func(t *testing.T, r *rowRun) {
		mac := r.hostEnd(t)
		r.pinned(t, map[string]truth{"10.97.0.1": {mac, "peer"}, "fd97::1": {mac, "peer"}})
		r.reaches(t, node.Targets()...)

		ip(t, "link", "set", r.pod.HostLink, "address", laterMAC)
		r.becomes(t, "two stale copies", func() error {
			if len(r.sandbox.Stale) != len(gateways) {
				return errors.New("not yet")
			}
			return nil
		})
		for _, s := range r.sandbox.Stale {
			if s.Copied != mac || s.LLAddr != laterMAC || s.Since.IsZero() {
				t.Errorf("stale %+v, want %s to be %s now", s, mac, laterMAC)
			}
		}
		if err := r.try(t, node.Targets()[0]); err == nil {
			t.Error("the pod reaches its gateway all the same: the copy was not stale")
		}

		ip(t, "link", "set", r.pod.HostLink, "address", mac)
		r.becomes(t, "no stale copies", func() error {
			if len(r.sandbox.Stale) != 0 {
				return errors.New("not yet")
			}
			return nil
		})
		r.reaches(t, node.Targets()...)
	})
}
