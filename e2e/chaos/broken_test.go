// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// The repair paths of neighpin.
const (
	podEvents     = "events in the pod's namespace"
	linkEvents    = "events of the node's links"
	addressEvents = "events of the node's addresses"
	lostEvents    = "a look at everything when events were lost"
	takeover      = "a look at what an earlier process left"
	lifeEvents    = "events in the pod before its first container"
	lifeNudges    = "events on the node before the pod's first container"
	handOver      = "the guard from the first container on"
	comparison    = "the slow comparison"
	withdrawal    = "withdrawal of what has no truth"
	replacement   = "replacement of permanent entries"
	routeless     = "pins whose route is gone"
	staleness     = "what is stale"
	correction    = "correction of what gVisor left"
	retry         = "another look when one failed"
	forgetting    = "the end of a sandbox"
	remains       = "records of sandboxes that ended while nobody was there"
)

// stage are pods for the scenarios.
type stage struct {
	*world
	kernel, other, bridged *pod
}

// scenario does what one repair path is there for. When it returns, neighpin has what it needs to know.
type scenario struct {
	path string
	do   func(ctx context.Context, s *stage) error
	// undo is done when it is over.
	undo func(s *stage) error
}

var mac = net.HardwareAddr{2, 0xbb, 0, 0, 0, 1}

// nextMAC is another one each time.
func nextMAC() net.HardwareAddr {
	mac[5]++
	return append(net.HardwareAddr(nil), mac...)
}

var scenarios = []scenario{
	{path: podEvents, do: func(_ context.Context, s *stage) error { return pinsFlushed(s.kernel, nil) }},
	{path: linkEvents, do: func(_ context.Context, s *stage) error { return s.kernel.move() }},
	{path: addressEvents, do: func(_ context.Context, _ *stage) error { return hold(gateways[0], false) },
		undo: func(*stage) error { return hold(gateways[0], true) }},
	{path: withdrawal, do: func(_ context.Context, _ *stage) error { return hold(gateways[1], false) },
		undo: func(*stage) error { return hold(gateways[1], true) }},
	{path: replacement, do: func(_ context.Context, s *stage) error { return s.other.replace(gateways[0], nextMAC()) }},
	{path: routeless, do: func(_ context.Context, s *stage) error {
		return s.kernel.in(func(h *netlink.Handle, eth0 netlink.Link) error {
			return errors.Join(h.LinkSetDown(eth0), h.LinkSetUp(eth0))
		})
	}, undo: func(s *stage) error {
		return s.kernel.in(func(h *netlink.Handle, _ netlink.Link) error { return s.kernel.network.restore(h) })
	}},
	// What these leave in the record of their pod cannot be mended, so that each has one of its own.
	{path: staleness, do: func(ctx context.Context, s *stage) error { return s.newcomer(ctx, spec(true, ""), true, (*pod).move) }, undo: (*stage).clear},
	{path: correction, do: func(ctx context.Context, s *stage) error { return s.newcomer(ctx, spec(true, ""), true, (*pod).move) }, undo: (*stage).clear},
	{path: lostEvents, do: whileStopped},
	{path: takeover, do: func(ctx context.Context, s *stage) error {
		s.world.kill()
		return errors.Join(pinsFlushed(s.kernel, nil), s.start(ctx))
	}},
	{path: retry, do: behindACover},
	{path: lifeEvents, do: func(ctx context.Context, s *stage) error {
		return s.newcomer(ctx, spec(false, ""), false, func(p *pod) error { return pinsFlushed(p, nil) })
	}, undo: (*stage).clear},
	{path: lifeNudges, do: func(ctx context.Context, s *stage) error { return s.newcomer(ctx, spec(false, ""), false, (*pod).move) }, undo: (*stage).clear},
	{path: handOver, do: func(ctx context.Context, s *stage) error {
		return s.newcomer(ctx, spec(false, ""), true, func(p *pod) error { return pinsFlushed(p, nil) })
	}, undo: (*stage).clear},
	{path: forgetting, do: func(ctx context.Context, s *stage) error {
		return errors.Join(s.newcomer(ctx, spec(false, ""), false, func(*pod) error { return nil }), s.clear())
	}},
	{path: remains, do: func(ctx context.Context, s *stage) error {
		return errors.Join(s.newcomer(ctx, spec(false, ""), true, func(*pod) error { s.world.kill(); return nil }), s.clear(), s.start(ctx))
	}},
	{path: comparison, do: insist},
}

// move gives the other end of the pod's link another address.
func (p *pod) move() error {
	return p.atHostEnd(func(h *netlink.Handle, end netlink.Link) error { return h.LinkSetHardwareAddr(end, nextMAC()) })
}

// whileStopped makes neighpin lose events: it does not read them, until there is no room for more.
func whileStopped(_ context.Context, s *stage) error {
	pid := s.daemon().PID()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	err := flood(s.other.NetNS, "eth0", 3*flooding)
	return errors.Join(err, pinsFlushed(s.kernel, nil), syscall.Kill(pid, syscall.SIGCONT))
}

// behindACover makes a look fail: another namespace is mounted over the pod's for the moment in which its pin is lost.
func behindACover(ctx context.Context, s *stage) error {
	path := s.kernel.NetNS
	inner, err := os.Open(path)
	if err != nil {
		return err
	}
	defer inner.Close()
	if err := unix.Mount(s.kernel.elsewhere.Ref(), path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cover %s: %w", path, err)
	}
	err = inside(fmt.Sprintf("/proc/self/fd/%d", inner.Fd()), func(h *netlink.Handle) error {
		eth0, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		return gone(h.NeighDel(&netlink.Neigh{LinkIndex: eth0.Attrs().Index, Family: netlink.FAMILY_V4, IP: gateways[0].AsSlice()}))
	})
	if err == nil {
		err = s.eventually(ctx, s.kernel, "the look to fail", func(sandbox node.Sandbox) bool { return sandbox.Error != "" })
	}
	return errors.Join(err, unix.Unmount(path, unix.MNT_DETACH))
}

// newcomer runs a pod, with a container or not, waits until all is as it should be, and does something to it.
func (s *stage) newcomer(ctx context.Context, spec node.PodSpec, contained bool, fn func(*pod) error) error {
	run, err := bed.RunPod(ctx, spec)
	if err != nil {
		return err
	}
	p := &pod{Pod: run, gvisor: spec.Handler == "runsc", replaced: map[netip.Addr]int{}}
	if contained {
		if err := p.contain(ctx); err != nil {
			return err
		}
	}
	s.comes = append(s.comes, p)
	if _, err := s.settle(ctx, patience); err != nil {
		return err
	}
	return fn(p)
}

// clear removes the newcomer.
func (s *stage) clear() error {
	var errs []error
	for _, p := range s.comes {
		errs = append(errs, p.Remove(context.Background()))
	}
	s.comes = nil
	return errors.Join(errs...)
}

// insist replaces a pin until it is given up, and then does not insist: only the slow comparison looks whether somebody still does.
func insist(ctx context.Context, s *stage) error {
	p := s.bridged
	given := func(sandbox node.Sandbox) bool {
		return len(sandbox.Skipped) != 0 && sandbox.Skipped[0].Reason == "Insists"
	}
	for try := 1; ; try++ {
		if err := p.setEntry(gateways[0], netlink.NUD_PERMANENT, nextMAC()); err != nil {
			return err
		}
		err := s.eventually(ctx, p, "the entry to be put back or given up", func(sandbox node.Sandbox) bool {
			there, err := entries(p.Pod)
			return err == nil && (given(sandbox) || there[gateways[0]] != mac.String())
		})
		if err != nil {
			return err
		}
		sandbox, err := s.daemon().Sandbox(ctx, p.Pod)
		if err != nil {
			return err
		}
		if given(sandbox) {
			return p.deletePin(gateways[0])
		}
		if try > 2*insistence {
			return errors.New("it is never given up")
		}
	}
}

// eventually waits until neighpin says of a pod what it should.
func (s *stage) eventually(ctx context.Context, p *pod, what string, ok func(node.Sandbox) bool) error {
	return await.Within(ctx, patience, what, func() error {
		sandbox, err := s.daemon().Sandbox(ctx, p.Pod)
		if err == nil && !ok(sandbox) {
			err = fmt.Errorf("said is %+v", sandbox)
		}
		return err
	})
}

// Without any one of neighpin's repair paths something is not as it should be, and that is seen. With it, in the same build, nothing is.
func TestBrokenBuildsAreCaught(t *testing.T) {
	makeSegment(t)
	s := &stage{world: newWorld(t, breakable(bed.Programs()))}
	s.kernel, s.other = s.add(t, false, "", false), s.add(t, false, "", false)
	s.bridged = s.add(t, false, "bridge", false)
	cut := map[string]bool{}
	for _, c := range cuts {
		cut[c.path] = true
	}
	for _, scenario := range scenarios {
		delete(cut, scenario.path)
		if scenario.path == comparison {
			s.args = []string{"--compare-interval", "1s"}
			if err := s.restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if !t.Run(scenario.path, func(t *testing.T) { s.try(t, scenario) }) {
			return // what it left is not what the next one begins with
		}
	}
	if len(cut) != 0 {
		t.Errorf("no scenario shows the lack of %v", cut)
	}
	figuref("broken builds caught: %d of %d", len(scenarios), len(scenarios))
}

// try runs a scenario with its repair path, and without.
func (s *stage) try(t *testing.T, scenario scenario) {
	t.Helper()
	ctx := t.Context()
	undone := func() error {
		if scenario.undo == nil {
			return nil
		}
		return scenario.undo(s)
	}
	if err := scenario.do(ctx, s); err != nil {
		t.Fatal(err)
	}
	took, err := s.settle(ctx, patience)
	if err != nil {
		t.Fatalf("control: with all repair paths: %v", err)
	}
	if err := undone(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.settle(ctx, patience); err != nil {
		t.Fatalf("control: after it: %v", err)
	}

	if err := os.WriteFile(brokenFile, []byte(scenario.path), 0o644); err != nil {
		t.Fatal(err)
	}
	err = scenario.do(ctx, s)
	// Long enough for one that is not broken.
	_, caught := s.settle(ctx, max(time.Second, 4*took))
	if err := errors.Join(err, os.Remove(brokenFile), undone()); err != nil {
		t.Fatal(err)
	}
	if caught == nil {
		t.Errorf("without %s all is as it should be", scenario.path)
	}
	t.Logf("with it, all is as it should be after %s; without: %v", took, caught)
	if err := s.restart(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.settle(ctx, patience); err != nil {
		t.Fatalf("after it: %v", err)
	}
}
