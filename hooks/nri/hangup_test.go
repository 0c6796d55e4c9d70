// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"
	"net"
	"sync"

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

// acceptRegistrationAndHangUp closes the connection after the registration.
func acceptRegistrationAndHangUp(conn net.Conn) { acceptRegistration(conn)() }

// acceptRegistration answers RegisterPlugin, and no Configure follows: the moment in
// which the stub's own Start hangs. What it returns closes the connection.
func acceptRegistration(conn net.Conn) (hangUp func()) {
	answered := &answerConn{Conn: conn, registered: make(chan struct{}), answered: make(chan struct{})}
	mux := multiplex.Multiplex(answered)
	closeMux := func() { _ = mux.Close() }
	listener, err := mux.Listen(multiplex.RuntimeServiceConn)
	if err != nil {
		return closeMux
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		return closeMux
	}
	api.RegisterRuntimeService(server, registrar{answered.registered})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(context.Background(), listener)
	}()
	<-answered.answered
	return func() {
		closeMux()
		_ = server.Close()
		<-served
	}
}

// answerConn tells when something has been written after the registration came,
// or when nothing will come any more.
type answerConn struct {
	net.Conn
	registered, answered chan struct{}
	once                 sync.Once
}

// Read tells it, too, when the plugin has gone before it registered.
func (c *answerConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.once.Do(func() { close(c.answered) })
	}
	return n, err
}

func (c *answerConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	select {
	case <-c.registered:
		c.once.Do(func() { close(c.answered) })
	default:
	}
	return n, err
}
