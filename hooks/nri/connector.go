// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"github.com/sirupsen/logrus"

	"github.com/neighpin/neighpin/pkg/sandbox"
)

// startTimeout bounds the registration with the runtime. The stub waits for the
// runtime's Configure without a limit of its own, and for ever when the runtime
// goes away between the two (nri pkg/stub/stub.go, Start).
const startTimeout = 10 * time.Second

// startGrace is how long a Start whose connection is gone may take to see it.
const startGrace = 200 * time.Millisecond

// errHungUp says that the runtime closed the connection.
var errHungUp = errors.New("the runtime closed the connection")

// errStartTimeout says that the runtime took the registration and then nothing.
var errStartTimeout = fmt.Errorf("the runtime did not configure the plugin within %s of its registration", startTimeout)

// Options are what a [Connector] works with. All fields but Registered are required.
type Options struct {
	// Socket is the path of NRI's socket; a runtime that launched the plugin
	// itself has passed a connection instead, which goes before.
	Socket string
	// Name and Index are the plugin's identity; a runtime that launched the
	// plugin gives both, and they go before.
	Name, Index string
	// Configure is called once per connection, with the configuration that the
	// runtime has for the plugin (empty unless it launched it), and returns the
	// engine that serves.
	Configure func(config string) (*sandbox.Engine, error)
	// Observe is told of every event that was handled, how long it took, and its
	// error. It must not block.
	Observe func(hook string, took time.Duration, err error)
	// Registered is told of every registration that was tried, with nil where it
	// led to a connection that is synchronized; nil for nobody.
	Registered func(err error)
	// FailRequest asks a runtime that knows of this (NRI 0.12.4) to fail what it
	// could not ask the plugin about in time, instead of going on without it.
	FailRequest bool
	// Log takes what is worth telling.
	Log logrus.FieldLogger
}

// State is how the connection is.
type State struct {
	// Connected: registered and configured. Synchronized: what was there before
	// has been taken over.
	Connected, Synchronized bool
	// Runtime and RuntimeVersion are the runtime's words for itself.
	Runtime, RuntimeVersion string
	// RequestTimeout is how long the runtime waits for an answer.
	RequestTimeout time.Duration
	// Err is why there is no connection.
	Err error
}

// Connector keeps the plugin registered with the runtime. It is safe for
// concurrent use.
type Connector struct {
	opts Options

	mu         sync.Mutex // guards the following
	state      State
	generation int // counts connections, so that an old one's late words count for nothing
}

// New prepares a connector; Run does the work.
func New(opts Options) *Connector {
	return &Connector{opts: opts}
}

// Launched tells that the runtime started this process as its plugin and passed
// it a connection.
func Launched() bool {
	return os.Getenv(api.PluginSocketEnvVar) != ""
}

// State returns a snapshot.
func (c *Connector) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Run connects, serves and connects again until the context ends, and returns
// its error. The one connection of a plugin that the runtime launched cannot be
// made again: its loss ends Run.
func (c *Connector) Run(ctx context.Context) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = 100 * time.Millisecond
	pause.MaxInterval = 5 * time.Second
	said := ""
	for {
		lost, err := c.serve(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !lost {
			c.registered(err)
		}
		c.lose(err)
		if Launched() {
			return fmt.Errorf("serve the runtime that launched this plugin: %w", err)
		}
		if lost {
			pause.Reset()
			said = ""
			c.opts.Log.WithError(err).Warn("connection to NRI lost; connecting again")
		} else if why := reason(err); why != said {
			// Once per reason: a node without NRI would fill its log.
			said = why
			c.opts.Log.WithError(err).WithField("socket", c.opts.Socket).
				Warn("no connection to NRI; trying on (is NRI enabled in the runtime, and the socket's directory mounted?)")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause.NextBackOff()):
		}
	}
}

func (c *Connector) registered(err error) {
	if c.opts.Registered != nil {
		c.opts.Registered(err)
	}
}

// reason is what an error is told under. A connection that ends while it is set
// up shows in many ways, depending on who notices first.
func reason(err error) string {
	if errors.Is(err, errHungUp) {
		return errHungUp.Error()
	}
	return err.Error()
}

// serve is one connection, from its registration to its loss; lost tells that
// it had been set up, which ends with Synchronize: a runtime that cannot do that
// hangs up after each registration, and is not to be asked again at once. A stub
// that failed once fails for ever, so each connection has its own.
func (c *Connector) serve(ctx context.Context) (lost bool, err error) {
	closed, synced := make(chan struct{}), make(chan struct{})
	conn := &watchedConn{gone: make(chan struct{})}
	h := &handlers{configure: c.opts.Configure, observe: c.opts.Observe, log: c.opts.Log}
	var synchronized func()
	h.onRuntime, synchronized = c.next()
	h.onSync = sync.OnceFunc(func() { synchronized(); close(synced) })
	options := []stub.Option{
		stub.WithSocketPath(c.opts.Socket),
		stub.WithLogger(stubLogger{c.opts.Log}),
		stub.WithDialer(conn.dial),
		stub.WithOnClose(sync.OnceFunc(func() { close(closed) })),
		// A handler that is too slow costs its event, never the connection, and
		// never the pod unless that was asked for.
		stub.WithFailurePolicy(&api.FailurePolicy{FailRequest: c.opts.FailRequest, KeepConnected: true}),
	}
	if os.Getenv(api.PluginNameEnvVar) == "" {
		options = append(options, stub.WithPluginName(c.opts.Name))
	}
	if os.Getenv(api.PluginIdxEnvVar) == "" {
		options = append(options, stub.WithPluginIdx(c.opts.Index))
	}
	s, err := stub.New(h, options...)
	if err != nil {
		return false, fmt.Errorf("prepare NRI plugin: %w", err)
	}
	if err := start(ctx, s, h, conn); err != nil {
		return false, fmt.Errorf("register with NRI: %w", err)
	}
	defer s.Stop()
	c.set(func(st *State) { st.Connected, st.RequestTimeout, st.Err = true, s.RequestTimeout(), nil })
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case <-closed:
		return false, fmt.Errorf("take over sandboxes from NRI: %w", errHungUp)
	case <-synced:
	}
	c.registered(nil)
	state := c.State()
	c.opts.Log.WithFields(logrus.Fields{
		"runtime": state.Runtime, "runtimeVersion": state.RuntimeVersion, "requestTimeout": state.RequestTimeout.String(),
		"runtimeNRI": s.RuntimeNRIVersion(), "pluginNRI": s.PluginNRIVersion(), "plugin": c.opts.Index + "-" + c.opts.Name,
	}).Info("registered with NRI")
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case <-closed:
		return true, errHungUp
	}
}

// starter is the part of the stub that the registration needs.
type starter interface {
	Start(context.Context) error
}

// configurer is the plugin's side of the protocol, which the stub implements.
// Calling it is the only way to wake a Start that waits for a runtime which is
// gone.
type configurer interface {
	Configure(context.Context, *api.ConfigureRequest) (*api.ConfigureResponse, error)
}

// start runs the stub's Start under a watchdog and never leaves it behind.
func start(ctx context.Context, s starter, h *handlers, conn *watchedConn) error {
	result := make(chan error, 1)
	go func() { result <- s.Start(ctx) }()
	watchdog := time.NewTimer(startTimeout)
	defer watchdog.Stop()
	cause := errStartTimeout
	select {
	case err := <-result:
		if err != nil && conn.ends(startGrace) {
			err = errors.Join(errHungUp, err)
		}
		return err
	case <-watchdog.C:
	case <-ctx.Done():
		cause = ctx.Err()
	case <-conn.gone:
		cause = errHungUp
	}
	// A Start that has not sent its registration yet fails by itself, as it
	// mostly does later, too.
	_ = conn.Close()
	select {
	case err := <-result:
		return errors.Join(cause, err)
	case <-time.After(startGrace):
	}
	if Launched() {
		return cause // the connection is the stub's own, and the process ends with it
	}
	if c, ok := s.(configurer); ok && conn.used() {
		h.abort(cause)
		// The error this returns is our own, and Start returns it as well.
		_, _ = c.Configure(ctx, &api.ConfigureRequest{})
	}
	<-result
	return cause
}

// watchedConn is a connection that tells when it has ended; the stub itself
// cannot while it starts. Before the dialer has filled it in it is
// only something to wait for.
type watchedConn struct {
	once sync.Once
	gone chan struct{} // closed when reading or writing has failed

	mu     sync.Mutex // guards the following
	conn   net.Conn
	wrote  bool
	closed bool
}

// dial is the stub's dialer.
func (c *watchedConn) dial(path string) (net.Conn, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed { // given up while it was dialled
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	c.conn = conn
	return watched{conn, c}, nil
}

// used tells that something was written. What the writer did before happened
// before used returns true: the stub's registration, whose fields Configure
// shares without a lock, is over then.
func (c *watchedConn) used() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wrote
}

// ends waits until the connection has ended, for at most the time given. What was never
// dialled does not end.
func (c *watchedConn) ends(limit time.Duration) bool {
	c.mu.Lock()
	dialled := c.conn != nil
	c.mu.Unlock()
	if !dialled {
		return false
	}
	select {
	case <-c.gone:
		return true
	case <-time.After(limit):
		return false
	}
}

// failed takes the outcome of reading or writing, of which either may see the
// end of the connection first, and then the other is not tried any more.
func (c *watchedConn) failed(err error) {
	if err != nil {
		c.once.Do(func() { close(c.gone) })
	}
}

// Close closes the connection, if there is one; there will be none afterwards.
func (c *watchedConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.conn == nil {
		return nil
	}
	return c.conn.Close()
}

// watched is the connection as the stub sees it.
type watched struct {
	net.Conn
	by *watchedConn
}

// Read reads from the connection.
func (w watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.by.failed(err)
	return n, err
}

// Write writes to the connection.
func (w watched) Write(p []byte) (int, error) {
	w.by.mu.Lock()
	w.by.wrote = true
	w.by.mu.Unlock()
	n, err := w.Conn.Write(p)
	w.by.failed(err)
	return n, err
}

func (c *Connector) set(change func(*State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.state)
}

// lose notes that there is no connection. A handler of the one that was may still
// be at work, and its words count for nothing from now on.
func (c *Connector) lose(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.state = State{Err: err}
}

// next begins a connection and returns what its handlers report to.
func (c *Connector) next() (onRuntime func(name, version string), onSync func()) {
	c.mu.Lock()
	c.generation++
	mine := c.generation
	c.mu.Unlock()
	change := func(change func(*State)) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.generation == mine {
			change(&c.state)
		}
	}
	return func(name, version string) {
			change(func(s *State) { s.Runtime, s.RuntimeVersion = name, version })
		}, func() {
			change(func(s *State) { s.Synchronized = true })
		}
}
