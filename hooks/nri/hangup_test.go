// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"
	"net"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/net/multiplex"
	"github.com/containerd/ttrpc"
)

// registrar is a runtime that takes a registration and never goes on.
type registrar struct{ registered chan struct{} }

func (r registrar) RegisterPlugin(context.Context, *api.RegisterPluginRequest) (*api.Empty, error) {
	close(r.registered)
	return &api.Empty{}, nil
}

func (r registrar) UpdateContainers(context.Context, *api.UpdateContainersRequest) (*api.UpdateContainersResponse, error) {
	return &api.UpdateContainersResponse{}, nil
}

// acceptRegistrationAndHangUp answers RegisterPlugin and closes the connection
// before Configure, the moment in which the stub's own Start hangs.
func acceptRegistrationAndHangUp(conn net.Conn) {
	mux := multiplex.Multiplex(conn)
	defer func() { _ = mux.Close() }()
	listener, err := mux.Listen(multiplex.RuntimeServiceConn)
	if err != nil {
		return
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		return
	}
	r := registrar{registered: make(chan struct{})}
	api.RegisterRuntimeService(server, r)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(context.Background(), listener)
	}()
	<-r.registered
	// Shutdown lets the answer out before it closes.
	_ = server.Shutdown(context.Background())
	<-served
}
