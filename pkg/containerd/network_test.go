// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/neighpin/neighpin/internal/nstest"
)

// countingNode counts how often it is asked.
type countingNode struct {
	cri.UnimplementedRuntimeServiceServer
	config string
	err    error
	asked  atomic.Int32
}

func (c *countingNode) Status(_ context.Context, request *cri.StatusRequest) (*cri.StatusResponse, error) {
	c.asked.Add(1)
	if c.err != nil {
		return nil, c.err
	}
	return answerTo(request, map[string]string{"config": c.config}), nil
}

// run serves the node at a socket until stop is called, as one run of containerd.
func (c *countingNode) run(t *testing.T, socket string) (stop func()) {
	t.Helper()
	_ = os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server, served := grpc.NewServer(), make(chan struct{})
	cri.RegisterRuntimeServiceServer(server, c)
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	return func() {
		server.Stop()
		<-served
	}
}

// Two configurations of a node.
const (
	oneNetwork  = `{"cni":{"maxConfNum":1},"containerd":{"runtimes":{"runsc":{"cniMaxConfNum":0}}}}`
	twoNetworks = `{"cni":{"maxConfNum":2}}`
)

func expectOneNetwork(t *testing.T, store *Store, want bool) {
	t.Helper()
	if got, err := store.OneNetwork(t.Context()); err != nil || got != want {
		t.Fatalf("one network: %v, %v; want %v", got, err, want)
	}
}

func TestWhetherPodsHaveOneNetworkIsAskedOncePerConnection(t *testing.T) {
	node, socket := &countingNode{config: oneNetwork}, filepath.Join(t.TempDir(), "s")
	stop := node.run(t, socket)
	store := open(t, socket)
	expectOneNetwork(t, store, true) // makes the connection
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if got, err := store.OneNetwork(t.Context()); err != nil || !got {
				t.Errorf("one network: %v, %v", got, err)
			}
		})
	}
	all.Wait()
	if got := node.asked.Load(); got != 1 {
		t.Errorf("asked %d times over one connection", got)
	}
	stop()
	node.config = twoNetworks
	stop = node.run(t, socket)
	defer stop()
	// Any answer from the new process is from a new connection.
	nstest.Eventually(t, "the new process to answer", func() bool {
		_, err := cri.NewRuntimeServiceClient(store.conn).Status(t.Context(), &cri.StatusRequest{})
		return err == nil
	})
	expectOneNetwork(t, store, false)
}

// containerd may be another one, with another configuration, by the time its answer is
// looked at.
func TestAnAnswerIsThatOfTheContainerdThatGaveIt(t *testing.T) {
	node, socket := &countingNode{config: oneNetwork}, filepath.Join(t.TempDir(), "s")
	stop := node.run(t, socket)
	defer func() { stop() }()
	var next []string // configurations of those that follow, each right after an answer
	store, err := NewStore(socket, "k8s.io", grpc.WithUnaryInterceptor(
		func(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, ask grpc.UnaryInvoker, options ...grpc.CallOption) error {
			err := ask(ctx, method, request, answer, conn, options...)
			if len(next) > 0 {
				stop()
				node.config, next = next[0], next[1:]
				stop = node.run(t, socket)
				nstest.Eventually(t, "the new process to answer", func() bool {
					return ask(ctx, method, request, &cri.StatusResponse{}, conn, options...) == nil
				})
			}
			return err
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	next = []string{twoNetworks, oneNetwork}
	expectOneNetwork(t, store, true) // makes the connection
	expectOneNetwork(t, store, false)
	expectOneNetwork(t, store, true)
}

func TestWhatContainerdCannotSayNowIsAskedAgain(t *testing.T) {
	node := &countingNode{config: oneNetwork, err: status.Error(codes.Unavailable, "server is not initialized yet")}
	store := connected(t, func(s *grpc.Server) { cri.RegisterRuntimeServiceServer(s, node) })
	refused := func(why string) {
		t.Helper()
		if _, err := store.OneNetwork(t.Context()); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("error %v, want one that says %q", err, why)
		}
	}
	refused("not initialized")
	node.err, node.config = nil, "{"
	refused("decode configuration")
	node.config = oneNetwork
	expectOneNetwork(t, store, true)
}

func TestWhichConfigurationsGiveOneNetwork(t *testing.T) {
	for config, want := range map[string]bool{
		`{"cni":{"maxConfNum":1}}`: true,
		`{"cni":{"maxConfNum":0}}`: false, // no limit
		`{"cni":{"maxConfNum":2}}`: false,
		`{"cni":{"maxConfNum":2},"containerd":{"runtimes":{"a":{"cniMaxConfNum":1}}}}`: false,
		`{"stateDir":"/run/c"}`: false,
		`{"cni":{"maxConfNum":1},"containerd":{"runtimes":{"a":{"cniMaxConfNum":1},"b":{}}}}`:                  true,
		`{"cni":{"maxConfNum":1},"containerd":{"runtimes":{"a":{"cniMaxConfNum":1},"b":{"cniMaxConfNum":2}}}}`: false,
	} {
		var node Node
		if err := node.readCRI(map[string]string{"config": config}); err != nil || node.OneNetwork != want || node.NetNSDir != "" {
			t.Errorf("%s: one network %v, want %v; namespaces at %q; %v", config, node.OneNetwork, want, node.NetNSDir, err)
		}
	}
}
