// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"
	"net"
	"os"
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

// A plugin that the runtime starts itself is given a connection, a name and a
// configuration; it can make no other connection, so that it ends with that one.
func TestAPluginThatTheRuntimeLaunchedEndsWithItsConnection(t *testing.T) {
	descriptor, mux, registered := launch(t)
	t.Setenv(api.PluginSocketEnvVar, strconv.Itoa(descriptor))
	t.Setenv(api.PluginNameEnvVar, "launched")
	t.Setenv(api.PluginIdxEnvVar, "07")
	engine := newEngine(t, t.TempDir())
	defer engine.Close()
	logger, _ := logtest.NewNullLogger()
	var given string
	c := New(Options{
		Socket: "/nonexistent", Name: "neighpin", Index: "10", Log: logger,
		Configure: func(config string) (*sandbox.Engine, error) { given = config; return engine, nil },
		Observe:   func(string, time.Duration, error) {},
	})
	ended := make(chan error, 1)
	go func() { ended <- c.Run(t.Context()) }()
	if got := <-registered; got.GetPluginName() != "launched" || got.GetPluginIdx() != "07" {
		t.Errorf("registered as %s-%s", got.GetPluginIdx(), got.GetPluginName())
	}
	conn, err := mux.Open(multiplex.PluginServiceConn)
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	plugin := api.NewPluginClient(client)
	if _, err := plugin.Configure(t.Context(), &api.ConfigureRequest{Config: "enforce: true", RuntimeName: "containerd", RuntimeVersion: "v2.4.2", RequestTimeout: 2000}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // no runtime does that, and it would be no reason to fall
		if _, err := plugin.Synchronize(t.Context(), &api.SynchronizeRequest{}); err != nil {
			t.Error(err)
		}
	}
	nstest.Eventually(t, "the connection to be set up", func() bool { state := c.State(); return state.Connected && state.Synchronized })
	if given != "enforce: true" {
		t.Errorf("configured by %q", given)
	}
	_ = mux.Close()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "the runtime that launched this plugin") {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on without its connection")
	}
}
