// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/net/multiplex"
	"github.com/containerd/ttrpc"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

// launcher is the runtime's side of one connection, played by hand.
type launcher struct {
	registered chan *api.RegisterPluginRequest
}

func (l launcher) RegisterPlugin(_ context.Context, request *api.RegisterPluginRequest) (*api.Empty, error) {
	l.registered <- request
	return &api.Empty{}, nil
}

func (l launcher) UpdateContainers(context.Context, *api.UpdateContainersRequest) (*api.UpdateContainersResponse, error) {
	return &api.UpdateContainersResponse{}, nil
}

// launch serves the other end of a connection, which is returned, until the test ends.
func launch(t *testing.T) (descriptor int, mux multiplex.Mux, registered <-chan *api.RegisterPluginRequest) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(pair[0]), "runtime")
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		t.Fatal(err)
	}
	mux = multiplex.Multiplex(conn)
	listener, err := mux.Listen(multiplex.RuntimeServiceConn)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	l := launcher{make(chan *api.RegisterPluginRequest, 1)}
	api.RegisterRuntimeService(server, l)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(context.Background(), listener)
	}()
	t.Cleanup(func() {
		_ = mux.Close()
		_ = server.Close()
		<-served
	})
	return pair[1], mux, l.registered
}

// launchedPlugin is a connector that was given a connection, a name and an index.
type launchedPlugin struct {
	*Connector
	side  multiplex.Mux // the runtime's
	calls api.PluginService
	given string // configuration
	end   context.CancelFunc
	ended chan error
}

// newLaunched runs a plugin and configures it, as the runtime that launched it does.
func newLaunched(t *testing.T) *launchedPlugin {
	t.Helper()
	descriptor, side, registered := launch(t)
	t.Setenv(api.PluginSocketEnvVar, strconv.Itoa(descriptor))
	t.Setenv(api.PluginNameEnvVar, "launched")
	t.Setenv(api.PluginIdxEnvVar, "07")
	engine := newEngine(t, t.TempDir())
	t.Cleanup(engine.Close)
	logger, _ := logtest.NewNullLogger()
	p := &launchedPlugin{side: side, ended: make(chan error, 1)}
	p.Connector = New(Options{
		Socket: "/nonexistent", Name: "neighpin", Index: "10", Log: logger,
		Configure: func(config string) (*sandbox.Engine, error) { p.given = config; return engine, nil },
		Observe:   func(string, time.Duration, error) {},
	})
	ctx, cancel := context.WithCancel(t.Context())
	p.end = cancel
	go func() { p.ended <- p.Run(ctx) }()
	if got := <-registered; got.GetPluginName() != "launched" || got.GetPluginIdx() != "07" {
		t.Errorf("registered as %s-%s", got.GetPluginIdx(), got.GetPluginName())
	}
	conn, err := side.Open(multiplex.PluginServiceConn)
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(conn)
	t.Cleanup(func() { _ = client.Close() })
	p.calls = api.NewPluginClient(client)
	request := &api.ConfigureRequest{Config: "enforce: true", RuntimeName: "containerd", RuntimeVersion: "v2.4.2", RequestTimeout: 2000}
	if _, err := p.calls.Configure(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	nstest.Eventually(t, "the connection", func() bool { return p.State().Connected })
	return p
}

// awaitEnd returns what Run does.
func (p *launchedPlugin) awaitEnd(t *testing.T) error {
	t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
		return nil
	}
}

// It can make no other connection.
func TestAPluginThatTheRuntimeLaunchedEndsWithItsConnection(t *testing.T) {
	p := newLaunched(t)
	for range 2 { // no runtime does that, and it would be no reason to fall
		if _, err := p.calls.Synchronize(t.Context(), &api.SynchronizeRequest{}); err != nil {
			t.Error(err)
		}
	}
	nstest.Eventually(t, "the sandboxes to be taken over", func() bool { return p.State().Synchronized })
	if p.given != "enforce: true" {
		t.Errorf("configured by %q", p.given)
	}
	_ = p.side.Close()
	if err := p.awaitEnd(t); err == nil || !strings.Contains(err.Error(), "the runtime that launched this plugin") {
		t.Errorf("Run: %v", err)
	}
}

func TestAPluginEndsWhileItWaitsToBeSynchronized(t *testing.T) {
	p := newLaunched(t)
	p.end()
	if err := p.awaitEnd(t); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

// The stub cannot be told; it is woken by a configuration of neighpin's own, which is
// not taken for the runtime's.
func TestAPluginEndsWhileItWaitsToBeConfigured(t *testing.T) {
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	p := &launchedPlugin{ended: make(chan error, 1), given: "nothing"}
	logger, _ := logtest.NewNullLogger()
	p.Connector = New(Options{
		Socket: listener.Addr().String(), Name: "neighpin", Index: "10", Log: logger,
		Configure: func(config string) (*sandbox.Engine, error) { p.given = config; return nil, errors.New("too late") },
		Observe:   func(string, time.Duration, error) {},
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { p.ended <- p.Run(ctx) }()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	hangUp := acceptRegistration(conn)
	defer hangUp()
	began := time.Now()
	cancel()
	if err := p.awaitEnd(t); !errors.Is(err, context.Canceled) || p.given != "nothing" {
		t.Errorf("Run: %v; configured by %q", err, p.given)
	}
	if took := time.Since(began); took > startTimeout*9/10 {
		t.Errorf("it took %v", took)
	}
}
