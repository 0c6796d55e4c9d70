// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/probe"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// Store is the part of containerd's sandbox store that the engine reads.
type Store interface {
	// List returns all sandboxes but the known ones; Get returns one, or an
	// error that wraps containerd.ErrNotFound.
	List(ctx context.Context, known []string) ([]containerd.Record, error)
	Get(ctx context.Context, id string) (containerd.Record, error)
}

var _ Store = (*containerd.Store)(nil)

// Options are what an [Engine] works with. All are required but Store and those
// whose zero value stands for something.
type Options struct {
	// Selection says which sandboxes are pinned and annotated, until
	// [Engine.SetSelection] gives another.
	Selection selection.Rules
	// Store is containerd's sandbox store; nil means no early path.
	Store Store
	// StateDir holds the records.
	StateDir string
	// NetNSDirs are the directories where the runtime keeps namespaces.
	NetNSDirs []string
	// Results is the directory in which libcni keeps the results of CNI's work, a file for
	// each network of a sandbox, and OneNetwork asks whether every sandbox has one alone.
	// Without either the store says when CNI has finished.
	Results    string
	OneNetwork func(context.Context) (bool, error)
	// MaxNeighbors is the limit of pins of one sandbox.
	MaxNeighbors int
	// CompareInterval is the time in which everything that has started is compared with
	// what is true, whatever events say, see guard.Options; zero stands for
	// DefaultCompareInterval.
	CompareInterval time.Duration
	// Learn says that gateways of which the host knows nothing are asked for on
	// the wire, and LearnInterval how often after that; zero stands for
	// DefaultLearnInterval.
	Learn         bool
	LearnInterval time.Duration
	// Enforce says that a sandbox whose gateways are not pinned is not to start.
	Enforce bool
	// HostState says what is done about what others left on the host for a
	// sandbox's addresses; empty is off.
	HostState HostStatePolicy
	// ReturnPath says that the host's end of a link that leads to one pod alone
	// gets the pod's addresses as permanent entries.
	ReturnPath bool
	// Observer counts what sandboxes that have started ask for; nil for nobody.
	Observer Observer
	// Reporter takes events.
	Reporter record.Reporter
}

// The intervals of [Options] that zero stands for.
const (
	DefaultCompareInterval = 5 * time.Minute
	DefaultLearnInterval   = time.Second
)

// nriWait bounds how long an NRI handler waits for a pin that has to stand
// before it returns. NRI drops a plugin after 2 s by default (nri
// pkg/api/timeouts.go).
const nriWait = time.Second

// Engine runs the lives of all sandboxes. Its methods are safe for concurrent
// use.
type Engine struct {
	opts    Options
	host    *netns.Host
	records *record.Dir
	watcher *netns.Watcher

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	results   *results
	guard     *guard.Guard
	pulse     *pulse
	watchHost func() (guard.HostWatcher, error)
	// setReturnPath is hoststate's, but in a test that has it fail.
	setReturnPath func(context.Context, []hoststate.Address, []hoststate.Entry) ([]hoststate.Entry, error)
	probe         func(context.Context, *netns.NS, []neighbor.Ask, probe.Options) ([]probe.Answer, error)

	tending  chan struct{} // held while the host is looked at; see tend
	mourning chan struct{} // held while it is found out who has ended; see mournLater
	waiting  atomic.Int32  // sandboxes whose CNI is at work

	mu        sync.Mutex // guards all following fields
	closed    bool
	rules     selection.Rules
	roster          // all sandboxes
	storeErr  error // what the store answered last
	storeSeen bool  // the store has been asked once
	storeTorn bool  // some of its records could not be decoded
	storeless bool  // it has been said that new sandboxes have no record there
}

// New prepares an engine. Nothing runs before Start.
func New(opts Options) (*Engine, error) {
	if err := opts.Selection.Validate(); err != nil {
		return nil, err
	}
	host, err := netns.NewHost()
	if err != nil {
		return nil, err
	}
	records, err := record.Open(opts.StateDir)
	if errors.Is(err, record.ErrUntrusted) {
		return nil, errors.Join(err, host.Close())
	}
	if err != nil {
		// A full or read-only disk costs records, no pins.
		opts.Reporter.Report(record.Event{Kind: record.KindRecord, Err: err})
	}
	e := &Engine{
		opts: opts, host: host, records: records,
		roster: newRoster(), rules: opts.Selection, pulse: newPulse(), watchHost: watchHost, setReturnPath: hoststate.SetReturnPath, probe: probe.Gateways,
		tending: make(chan struct{}, tenders), mourning: make(chan struct{}, tenders),
	}
	e.guard, e.results = guard.New(e.guardOptions()), newResults()
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e, nil
}

// guardOptions are those of the guard by the engine's.
func (e *Engine) guardOptions() guard.Options {
	opts := guard.Options{
		Interval:  cmp.Or(max(e.opts.CompareInterval, 0), DefaultCompareInterval),
		HoldFor:   nriWait, // a runtime that is there has told of its sandboxes by then
		HoldMany:  takeOverMany,
		WatchHost: func() (guard.HostWatcher, error) { return e.watchHost() },
		Listens:   func(err error) { e.report(record.Event{Kind: record.KindHost, Err: err}) },
		Round:     e.bury,
	}
	if e.opts.Learn {
		opts.AskInterval = cmp.Or(max(e.opts.LearnInterval, 0), DefaultLearnInterval)
	}
	return opts
}

func watchHost() (guard.HostWatcher, error) { return neighbor.WatchHost() }

// Start loads the records of earlier processes, removes those of sandboxes that
// are gone, and begins to watch for new namespaces.
func (e *Engine) Start() error {
	e.remember()
	return e.watch()
}

// remember takes the records of earlier processes.
func (e *Engine) remember() {
	if err := e.records.LoadEach(runtime.GOMAXPROCS(0), e.load); err != nil {
		e.report(record.Event{Kind: record.KindRecord, Err: err})
	}
	if err := e.records.SweepLive(); err != nil {
		e.report(record.Event{Kind: record.KindRecord, Err: err})
	}
}

// watch begins everything that goes on until Close.
func (e *Engine) watch() error {
	watcher, err := netns.NewWatcher(e.opts.NetNSDirs)
	if err != nil {
		return err
	}
	if err := watcher.Start(e.ctx); err != nil {
		watcher.Close()
		return err
	}
	e.watcher = watcher
	e.bury() // what went since its record was read
	e.guard.Start(e.ctx)
	e.watchResults()
	e.wg.Go(e.discover)
	e.wg.Go(e.beat)
	return nil
}

// Close ends all work and waits for it. It removes nothing: neither pins nor
// records. It may be called more than once.
func (e *Engine) Close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.guard.Close()
	if e.watcher != nil {
		e.watcher.Close()
	}
	e.results.close()
	e.wg.Wait()
	_ = e.host.Close()
}

// SandboxStarted takes NRI's RunPodSandbox: CNI has finished, and the runtime
// has the sandbox or is about to. Where the early path has not seen the sandbox
// the pins are made now, and the call waits for them; it takes at most a second.
func (e *Engine) SandboxStarted(ctx context.Context, id record.Identity) {
	ctx, cancel := context.WithTimeout(ctx, nriWait)
	defer cancel()
	s := e.begin(ctx, id, anew)
	if s == nil {
		return
	}
	// In this order, which asked relies on.
	s.started.open()
	s.barrier.open()
	defer s.answered.open()
	s.wait(ctx)
	if s.settled() && s.record().Error != "" {
		// It failed before; a pod on the kernel's stack has no container yet.
		within(ctx, e.guard.Check(guard.Event, s.ward))
	}
}

// within waits for c, for as long as the context lasts.
func within(ctx context.Context, c <-chan struct{}) {
	select {
	case <-c:
	case <-ctx.Done():
	}
}

// ContainerCreating takes NRI's CreateContainer and returns the annotation for
// the container; empty when it gets none. A container can come while its
// sandbox is being taken over: then the call waits for that, for at most half a
// second.
func (e *Engine) ContainerCreating(ctx context.Context, id string) string {
	s, known := e.find(id)
	switch {
	case s != nil:
		ctx, cancel := context.WithTimeout(ctx, nriWait/2)
		defer cancel()
		s.containerComes()
		s.barrier.open() // CNI is certainly over
		s.wait(ctx)
		return e.annotation(s.record())
	case known:
		return ""
	}
	return e.RecordedAnnotation(id)
}

// RecordedAnnotation is the annotation by the sandbox's record on disk, which
// another process may have written; empty when there is none.
func (e *Engine) RecordedAnnotation(id string) string {
	rec, err := e.records.Load(id)
	if err != nil || !netns.Exists(rec.NetNS.Path, rec.NetNS.Cookie) {
		return ""
	}
	return e.annotation(rec)
}

func (e *Engine) annotation(rec record.Record) string {
	value, err := rec.Annotation()
	if err != nil {
		e.report(record.Event{Kind: record.KindFailed, Record: rec, Err: err})
	}
	return value
}

// SandboxStopped takes NRI's StopPodSandbox: nothing is repaired any more. The
// record stays until the namespace is gone.
func (e *Engine) SandboxStopped(id string) {
	e.mu.Lock()
	s := e.sandboxes[id]
	e.mu.Unlock()
	if s != nil {
		s.stop()
		e.guard.Drop(s.ward)
	}
}

// SandboxRemoved takes NRI's RemovePodSandbox.
func (e *Engine) SandboxRemoved(id string) {
	e.mu.Lock()
	s := e.sandboxes[id]
	e.unpass(id)
	delete(e.undecided, id)
	e.mu.Unlock()
	if s != nil {
		e.forget(s)
	}
}

// Status is what the engine knows, for people and probes.
type Status struct {
	// StoreConnected tells that containerd's sandbox store answered last time.
	StoreConnected bool
	// StoreError is why it did not.
	StoreError error
	// HostHeard tells that changes of the host's links are heard; HostError is why
	// not, where that has been tried.
	HostHeard bool
	HostError error
	// HostMessages is how many of the kernel's messages about the host and its
	// namespaces were read since the start, and Looks how often a sandbox that has
	// started was looked at, by what led to that.
	HostMessages uint64
	Looks        map[record.Cause]uint64
	// Sandboxes are copies of the records, ordered by pod.
	Sandboxes []record.Record
}

// Status returns a snapshot.
func (e *Engine) Status() Status {
	status := e.Overview()
	status.Sandboxes = slices.Collect(e.Sandboxes())
	return status
}

// Overview is Status without the sandboxes: what it takes does not depend on how many
// there are.
func (e *Engine) Overview() Status {
	e.mu.Lock()
	status := Status{StoreConnected: e.storeSeen && e.storeErr == nil, StoreError: e.storeErr, Looks: make(map[record.Cause]uint64)}
	e.mu.Unlock()
	status.HostHeard, status.HostError = e.guard.Hears()
	var looks map[guard.Cause]uint64
	status.HostMessages, looks = e.guard.Count()
	for cause, n := range looks {
		status.Looks[causeOf(cause)] = n
	}
	return status
}

// Sandboxes goes through copies of the records, ordered by pod, one after the other: all
// of them at once are much memory. Those are gone through that were there when it began.
func (e *Engine) Sandboxes() iter.Seq[record.Record] {
	return func(yield func(record.Record) bool) {
		e.mu.Lock()
		known := slices.AppendSeq(make([]*sandbox, 0, len(e.sandboxes)), maps.Values(e.sandboxes))
		e.mu.Unlock() // the runtime's calls need it
		slices.SortFunc(known, func(a, b *sandbox) int {
			return cmp.Or(cmp.Compare(a.id.Namespace, b.id.Namespace), cmp.Compare(a.id.Name, b.id.Name), cmp.Compare(a.id.ID, b.id.ID))
		})
		for _, s := range known {
			if !yield(e.observed(s.record())) {
				return
			}
		}
	}
}

func (e *Engine) report(event record.Event) {
	e.opts.Reporter.Report(event)
}

// fail notes why a sandbox is not pinned as it should be.
func (e *Engine) fail(s *sandbox, err error) {
	s.update(func(r *record.Record) {
		r.Error = err.Error()
		r.Note(record.KindFailed, "%v", err)
	})
	if s.record().NetNS.Cookie != 0 {
		e.save(s)
	}
	e.report(record.Event{Kind: record.KindFailed, Record: s.record(), Err: fmt.Errorf("pin gateways of sandbox %s: %w", s.id.ID, err)})
}
