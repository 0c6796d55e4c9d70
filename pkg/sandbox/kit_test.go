// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

const (
	typeGVisor = "io.containerd.runsc.v1"
	typeRunc   = "io.containerd.runc.v2"
	podID      = "0123456789abcdef"
)

// log keeps the engine's events.
type log struct {
	mu     sync.Mutex
	events []record.Event
	hold   record.Kind   // events of this kind
	until  chan struct{} // make the engine wait for this
}

func (l *log) Report(event record.Event) {
	l.mu.Lock()
	l.events = append(l.events, event)
	hold, until := l.hold, l.until
	l.mu.Unlock()
	if event.Kind == hold && until != nil {
		<-until
	}
}

// holdUp makes the engine's goroutine stand still at events of a kind, as a
// process does that gets no processor, until release is called.
func (l *log) holdUp(kind record.Kind) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	until := make(chan struct{})
	l.hold, l.until = kind, until
	return sync.OnceFunc(func() { close(until) })
}

func (l *log) count(kind record.Kind) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, event := range l.events {
		if event.Kind == kind {
			n++
		}
	}
	return n
}

// last returns the newest event of a kind.
func (l *log) last(kind record.Kind) record.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, event := range slices.Backward(l.events) {
		if event.Kind == kind {
			return event
		}
	}
	return record.Event{}
}

// node is one engine with its directories, and the process's own namespace, which
// plays the host's part: it holds the other ends.
type node struct {
	t        testing.TB
	store    *fakeStore
	log      *log
	engine   *Engine
	stateDir string
	netnsDir string
	outside  *nstest.NS
	compare  time.Duration                     // the slow comparison's interval
	learn    time.Duration                     // how often is asked; zero: never
	watch    func() (guard.HostWatcher, error) // instead of the host's real events
	handlers []string                          // instead of gVisor's

	results    string // where libcni keeps them
	oneNetwork func(context.Context) (bool, error)

	hostState  HostStatePolicy
	returnPath bool

	observer Observer
	pulse    func(*pulse) // nil: as it is
}

func newNode(t *testing.T) *node {
	t.Helper()
	return newNodeWith(t, func(*node) {})
}

// newNodeWith makes a node after its fields were set.
func newNodeWith(t testing.TB, set func(*node)) *node {
	t.Helper()
	n := &node{t: t, store: &fakeStore{}, stateDir: t.TempDir(), netnsDir: t.TempDir(), outside: nstest.Own(t), compare: time.Hour}
	set(n)
	n.start()
	t.Cleanup(func() { n.engine.Close() })
	return n
}

func (n *node) options() Options {
	n.log = &log{}
	handlers := n.handlers
	if handlers == nil {
		handlers = []string{"runsc*"}
	}
	return Options{
		Selection: selection.Rules{Handlers: handlers, Annotate: handlers, PodAnnotations: selection.Allow},
		Store:     n.store, StateDir: n.stateDir, NetNSDirs: []string{n.netnsDir}, MaxNeighbors: 16, Reporter: n.log,
		CompareInterval: n.compare, LearnInterval: n.learn, Learn: n.learn > 0,
		Results: n.results, OneNetwork: n.oneNetwork,
		HostState: n.hostState, ReturnPath: n.returnPath, Observer: n.observer,
	}
}

// selects has the running engine pin pods of other handlers than its options say.
func (n *node) selects(handlers ...string) {
	n.t.Helper()
	rules := n.engine.opts.Selection
	rules.Handlers = handlers
	if err := n.engine.SetSelection(rules); err != nil {
		n.t.Fatal(err)
	}
}

// start makes and starts the node's engine, as a new process would.
func (n *node) start() {
	n.t.Helper()
	n.engine = n.prepared()
	if err := n.engine.Start(); err != nil {
		n.engine.Close()
		n.t.Fatal(err)
	}
}

// prepared makes an engine that has not been started.
func (n *node) prepared() *Engine {
	n.t.Helper()
	engine, err := New(n.options())
	if err != nil {
		n.t.Fatal(err)
	}
	if n.watch != nil {
		engine.watchHost = n.watch
	}
	if n.pulse != nil {
		n.pulse(engine.pulse)
	}
	return engine
}

// pod is a sandbox as containerd and ptp make it: a namespace with a veth, two
// addresses and two default routes, mounted at a file.
type pod struct {
	*nstest.NS
	node *node
	rec  containerd.Record
}

const (
	gateway4 = "10.88.0.1"
	gateway6 = "fd00:88::1"
)

// newPod makes the namespace's file, mounts the namespace, and writes the record
// that CNI's work follows; there is no network in it yet.
func (n *node) newPod(handler, runtime string) *pod {
	n.t.Helper()
	return n.newPodAs(podID, handler, runtime)
}

func (n *node) newPodAs(id, handler, runtime string) *pod {
	n.t.Helper()
	p := &pod{NS: nstest.New(n.t), node: n}
	path := filepath.Join(n.netnsDir, "cni-"+id)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		n.t.Fatal(err)
	}
	p.MountAt(path)
	p.rec = containerd.Record{
		ID: id, Name: "web", Namespace: "shop", UID: "u1", Handler: handler, Runtime: runtime, NetNSPath: path,
	}
	return p
}

// unlisted is what containerd 1.7 knows of a sandbox: lists lack it, and its
// pause container is all that Get finds.
func (p *pod) unlisted() *pod {
	p.node.store.keep(p.rec)
	return p
}

func (p *pod) listed() *pod {
	p.node.store.put(p.rec)
	return p
}

// cni gives the namespace its network.
func (p *pod) cni() *pod {
	p.node.t.Helper()
	p.node.veth(p.NS, "veth0")
	p.IP("address add 10.88.0.2/24 dev eth0", "address add fd00:88::2/64 dev eth0 nodad",
		"route add default via "+gateway4, "route add default via "+gateway6)
	return p
}

// veth connects a sandbox's eth0 with the host.
func (n *node) veth(sandbox *nstest.NS, name string) {
	n.t.Helper()
	sandbox.Veth("eth0", n.outside, name)
	// With the sandbox's namespace it would go somewhat later.
	n.t.Cleanup(func() { _, _ = n.outside.TryIP("link del " + name) })
}

// ready writes CNI's result into the record.
func (p *pod) ready() *pod {
	p.rec.NetworkReady = true
	p.node.store.put(p.rec)
	return p
}

// take does what gVisor does when it starts: it removes the addresses.
func (p *pod) take() {
	p.node.t.Helper()
	p.marginToCount()
	p.IP("address del 10.88.0.2/24 dev eth0", "address del fd00:88::2/64 dev eth0")
}

// marginToCount waits until what is pinned has been there for long enough to prove something.
func (p *pod) marginToCount() {
	p.node.t.Helper()
	p.node.eventually("the margin to be one that counts", func() bool {
		timing := p.node.record().Timing
		look := time.Duration(timing.ResultToPinMs * float64(time.Millisecond)) // or less
		return time.Since(timing.PinnedAt) > 2*(minMargin+look)
	})
}

// remove takes network and namespace away as CNI and containerd do.
func (p *pod) remove() {
	p.node.t.Helper()
	_, _ = p.TryIP("link del eth0") // which not every pod has
	if err := nstest.Unmount(p.rec.NetNSPath); err != nil {
		p.node.t.Fatal(err)
	}
	if err := os.Remove(p.rec.NetNSPath); err != nil {
		p.node.t.Fatal(err)
	}
}

// permanent returns the permanent entries that the kernel has.
func (p *pod) permanent() string {
	return strings.TrimSpace(p.Output("neigh", "show", "nud", "permanent"))
}

func (n *node) eventually(what string, ok func() bool) {
	n.t.Helper()
	nstest.Eventually(n.t, what, ok)
}

// record is what the engine says of the one pod.
func (n *node) record() record.Record { return n.recordOf(podID) }

func (n *node) recordOf(id string) record.Record {
	for _, rec := range n.engine.Status().Sandboxes {
		if rec.ID == id {
			return rec
		}
	}
	return record.Record{}
}

func (n *node) awaitVerdict(want record.Verdict) record.Record {
	n.t.Helper()
	var rec record.Record
	n.eventually("verdict "+string(want), func() bool {
		rec = n.record()
		return rec.ID != "" && rec.Timing.Verdict != record.Pending
	})
	if rec.Timing.Verdict != want {
		n.t.Fatalf("verdict %s, want %s; record %+v", rec.Timing.Verdict, want, rec)
	}
	return rec
}

// started tells the engine of a sandbox as NRI's RunPodSandbox does, and is answered when the sandbox has been looked at. An
// answer that took all of NRI's patience is one to a machine that stood still: it is told once more.
func (n *node) started(id record.Identity) {
	n.t.Helper()
	n.eventually("an answer to RunPodSandbox in time", func() bool {
		began := time.Now()
		n.engine.SandboxStarted(n.t.Context(), id)
		return time.Since(began) < nriWait
	})
}

// takeOver is the same for Synchronize.
func (n *node) takeOver(ids ...record.Identity) {
	n.t.Helper()
	n.eventually("an answer to Synchronize in time", func() bool {
		began := time.Now()
		n.engine.TakeOver(n.t.Context(), ids)
		return time.Since(began) < nriWait
	})
}

// fairly makes attempts at what depends on the short times that NRI leaves, until one was fair: in which the machine did not
// stand still for that long.
func fairly(t *testing.T, attempt func(t *testing.T) (fair bool)) {
	t.Helper()
	for range 10 {
		fair := false
		t.Run("attempt", func(t *testing.T) { fair = attempt(t) })
		if fair || t.Failed() {
			return
		}
	}
	t.Error("none of ten attempts had its time")
}

func (n *node) awaitPinned() {
	n.t.Helper()
	n.eventually("the pod to be pinned", func() bool { return n.log.count(record.KindPinned) > 0 })
}

var errDown = errors.New("the test's store is down")

var errNotPermitted = fmt.Errorf("the test's process may not listen: %w", fs.ErrPermission)
