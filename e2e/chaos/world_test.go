// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/internal/nstest"
)

// patience is how long anything may take until all is as it should be, on a machine with better things to do. A comparison that fails
// is tried again at intervals that double, up to 25 seconds; and it is far less than the interval of the slow comparison.
const patience = 2 * time.Minute

// pinMe is what a pod of runc says to be pinned.
var pinMe = map[string]string{"neighpin.io/pin": "true"}

// pod is one that faults are done to, or that comes and goes.
type pod struct {
	*node.Pod
	gvisor    bool
	passing   bool // it comes and goes, whether neighpin is there at the moment or not
	container *node.Container

	mu        sync.Mutex            // held for the length of a fault
	network   network               // as CNI has made it
	replaced  map[netip.Addr]int    // how often somebody in it put another entry in the place of a pin
	foreign   map[netip.Addr]string // what the last of these said
	elsewhere *nstest.NS            // where its link is taken to
}

// network is what a link loses with its namespace, or with being taken down.
type network struct {
	addresses []netlink.Addr
	routes    []netlink.Route
}

// world is a node with neighpin and pods that stay.
type world struct {
	program string
	args    []string

	cri     sync.RWMutex // for writing: containerd is not there
	thawed  int          // guarded by cri: how often containerd stood still
	segment sync.Mutex   // held while the bridge's addresses change

	mu    sync.Mutex // guards the following
	now   *node.Daemon
	made  map[string]int // faults by kind
	stays []*pod
	comes []*pod // passing ones that are there at the moment

	held       []string // paths of namespaces of the test's own
	looks      int
	slowest    time.Duration
	violations int
}

// newWorld starts neighpin and removes everything at the end of the test. Program is the product's binary if empty.
func newWorld(t *testing.T, program string, args ...string) *world {
	t.Helper()
	w := &world{program: program, args: args, made: map[string]int{}}
	if err := w.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.kill()
		if err := removeAllPods(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		folder, err := bed.KeepLogs(t.Name())
		t.Log("the logs of containerd, neighpin and runsc are kept in", folder, err)
	})
	return w
}

// start starts neighpin and waits until it is ready.
func (w *world) start(ctx context.Context) error {
	d, err := w.launch()
	if err != nil {
		return err
	}
	return ready(ctx, d)
}

// ready waits until a neighpin is ready. It registers with NRI when no sandbox is just being started, and containerd may be about to start itself.
func ready(ctx context.Context, d *node.Daemon) error {
	return await.Within(ctx, 2*patience, "neighpin to be ready", func() error { return d.Ready(ctx) })
}

// launch starts neighpin.
func (w *world) launch() (*node.Daemon, error) {
	d, err := bed.StartDaemon(node.DaemonOptions{Program: w.program, Args: w.args})
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = d
	return d, nil
}

func (w *world) daemon() *node.Daemon {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// kill ends neighpin with SIGKILL.
func (w *world) kill() { _ = w.daemon().Kill() }

// removeAllPods tries again where containerd is still busy with a sandbox, as the kubelet does.
func removeAllPods(ctx context.Context) error {
	return await.Within(ctx, patience, "the removal of all pods", func() error { return bed.RemoveAllPods(ctx) })
}

// restart kills neighpin and starts it again.
func (w *world) restart(ctx context.Context) error {
	w.kill()
	return w.start(ctx)
}

// spec is a pod of gVisor, or one of runc that asks to be pinned.
func spec(gvisor bool, namespace string) node.PodSpec {
	s := node.PodSpec{Handler: "runc", Annotations: pinMe, Namespace: namespace}
	if gvisor {
		s.Handler, s.Annotations = "runsc", nil
	}
	return s
}

// add runs a pod that stays; with idle it has no container yet.
func (w *world) add(t *testing.T, gvisor bool, namespace string, idle bool) *pod {
	t.Helper()
	run, err := bed.RunPod(t.Context(), spec(gvisor, namespace))
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{Pod: run, gvisor: gvisor, replaced: map[netip.Addr]int{}, foreign: map[netip.Addr]string{}, elsewhere: nstest.New(t)}
	if !gvisor {
		if p.network, err = networkOf(run); err != nil {
			t.Fatal(err)
		}
	}
	if !idle {
		if err := p.contain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.stays, w.held = append(w.stays, p), append(w.held, p.elsewhere.Ref())
	return p
}

// contain runs the pod's first container.
func (p *pod) contain(ctx context.Context) (err error) {
	p.container, err = p.Run(ctx, node.ContainerSpec{})
	return err
}

// networkOf reads the addresses and routes that CNI gave a pod. gVisor has taken those of its pods.
func networkOf(p *node.Pod) (n network, err error) {
	err = inside(p.NetNS, func(h *netlink.Handle) error {
		eth0, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		if n.addresses, err = h.AddrList(eth0, netlink.FAMILY_ALL); err != nil {
			return err
		}
		n.addresses = slices.DeleteFunc(n.addresses, func(a netlink.Addr) bool { return a.IP.IsLinkLocalUnicast() })
		n.routes, err = h.RouteList(eth0, netlink.FAMILY_ALL)
		n.routes = slices.DeleteFunc(n.routes, func(r netlink.Route) bool { return r.Protocol == unix.RTPROT_KERNEL })
		// What a gateway is reached by comes before what it leads to.
		slices.SortStableFunc(n.routes, func(a, b netlink.Route) int { return len(a.Gw) - len(b.Gw) })
		return err
	})
	return n, err
}

// restore gives the pod's link its addresses and routes again.
func (n network) restore(h *netlink.Handle) error {
	eth0, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	errs := []error{h.LinkSetUp(eth0)}
	for _, a := range n.addresses {
		a.Flags |= unix.IFA_F_NODAD
		a.Flags &^= unix.IFA_F_PERMANENT | unix.IFA_F_TENTATIVE
		if err := h.AddrReplace(eth0, &netlink.Addr{IPNet: a.IPNet, Scope: a.Scope, Flags: a.Flags}); err != nil {
			errs = append(errs, fmt.Errorf("give eth0 address %s: %w", a.IPNet, err))
		}
	}
	for _, r := range n.routes {
		r.LinkIndex, r.Flags = eth0.Attrs().Index, 0
		if r.Family == netlink.FAMILY_V6 {
			r.Src = nil // the kernel refuses an address that it has just been given
		}
		if err := h.RouteReplace(&r); err != nil {
			errs = append(errs, fmt.Errorf("make route %s: %w", r, err))
		}
	}
	return errors.Join(errs...)
}

// pods are all that live.
func (w *world) pods() []*pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(slices.Clone(w.stays), w.comes...)
}

// look says what is not as it should be, of whom.
func (w *world) look(ctx context.Context) (violations []error) {
	status, err := w.daemon().Status(ctx)
	if err != nil {
		return []error{err}
	}
	known := map[string]node.Sandbox{}
	for _, sandbox := range status.Sandboxes {
		known[sandbox.ID] = sandbox
	}
	for _, p := range w.pods() {
		err := p.differences(known[p.ID])
		if known[p.ID].ID == "" {
			err = errors.New("nothing is known of it")
		}
		if err != nil {
			violations = append(violations, fmt.Errorf("pod %s/%s: %w", p.Namespace, p.Name, err))
		}
		delete(known, p.ID)
	}
	for id := range known {
		violations = append(violations, fmt.Errorf("sandbox %s is known and does not live", id))
	}
	records, err := w.daemon().Records()
	for _, id := range records {
		if !slices.ContainsFunc(w.pods(), func(p *pod) bool { return p.ID == id }) {
			err = errors.Join(err, fmt.Errorf("there is a record of sandbox %s, which does not live", id))
		}
	}
	if err != nil {
		violations = append(violations, err)
	}
	return violations
}

// settle waits until all is as it should be, and says how long that took; else the error has what is not.
func (w *world) settle(ctx context.Context, limit time.Duration) (time.Duration, error) {
	begin := time.Now()
	err := await.Within(ctx, limit, "all to be as it should be", func() error { return errors.Join(w.look(ctx)...) })
	return time.Since(begin), err
}

// makeSegment makes the bridge that pods of the datapath "bridge" become ports of, with the gateways' addresses, until the end of the test.
func makeSegment(t *testing.T) {
	t.Helper()
	err := errors.Join(ip("link", "add", datapath.SegmentLink, "type", "bridge"), ip("link", "set", datapath.SegmentLink, "up"))
	t.Cleanup(func() {
		if err := ip("link", "delete", datapath.SegmentLink); err != nil {
			t.Error(err)
		}
	})
	for _, gateway := range gateways {
		err = errors.Join(err, hold(gateway, true))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// hold gives the bridge the address of a gateway, or takes it away.
func hold(gateway netip.Addr, holds bool) error {
	bits := 16
	if gateway.Is6() {
		bits = 64
	}
	prefix := netip.PrefixFrom(gateway, bits).String()
	if !holds {
		return ip("address", "delete", prefix, "dev", datapath.SegmentLink)
	}
	return ip("address", "replace", prefix, "dev", datapath.SegmentLink, "nodad")
}

// ip runs a command of iproute2 on the node.
func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
