// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/neighpin/neighpin/internal/nstest"
)

// countingNode counts how often it is asked.
type countingNode struct {
	cri.UnimplementedRuntimeServiceServer
	config string
	asked  atomic.Int32
}

func (c *countingNode) Status(context.Context, *cri.StatusRequest) (*cri.StatusResponse, error) {
	c.asked.Add(1)
	return &cri.StatusResponse{Info: map[string]string{"config": c.config}}, nil
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

func TestWhetherPodsHaveOneNetworkIsAskedOncePerConnection(t *testing.T) {
	const one, two = `{"cni":{"maxConfNum":1},"containerd":{"runtimes":{"runsc":{"cniMaxConfNum":0}}}}`, `{"cni":{"maxConfNum":2}}`
	node, socket := &countingNode{config: one}, filepath.Join(t.TempDir(), "s")
	stop := node.run(t, socket)
	store := open(t, socket)
	ask := func(want bool) {
		t.Helper()
		if got, err := store.OneNetwork(t.Context()); err != nil || got != want {
			t.Fatalf("one network: %v, %v; want %v", got, err, want)
		}
	}
	ask(true) // makes the connection
	ask(true)
	before := node.asked.Load()
	for range 10 {
		ask(true)
	}
	if got := node.asked.Load(); got != before {
		t.Errorf("asked %d times more over one connection", got-before)
	}
	stop()
	node.config = two
	stop = node.run(t, socket)
	defer stop()
	// Any answer from the new process is from a new connection.
	nstest.Eventually(t, "the new process to answer", func() bool {
		_, err := cri.NewRuntimeServiceClient(store.conn).Status(t.Context(), &cri.StatusRequest{})
		return err == nil
	})
	ask(false)
}

func TestWhichConfigurationsGiveOneNetwork(t *testing.T) {
	for config, want := range map[string]bool{
		`{"cni":{"maxConfNum":1}}`: true,
		`{"cni":{"maxConfNum":0}}`: false, // no limit
		`{"cni":{"maxConfNum":2}}`: false,
		`{}`:                       false,
		`{"cni":{"maxConfNum":1},"containerd":{"runtimes":{"a":{"cniMaxConfNum":1},"b":{}}}}`:                  true,
		`{"cni":{"maxConfNum":1},"containerd":{"runtimes":{"a":{"cniMaxConfNum":1},"b":{"cniMaxConfNum":2}}}}`: false,
	} {
		var node Node
		if err := node.readCRI(map[string]string{"config": config}); err != nil || node.OneNetwork != want {
			t.Errorf("%s: one network %v, %v; want %v", config, node.OneNetwork, err, want)
		}
	}
}
