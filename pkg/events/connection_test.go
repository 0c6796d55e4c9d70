// SPDX-License-Identifier: Apache-2.0

package events

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// wire leads to a server. What comes over a connection that was made before it was
// cut is read and goes nowhere, as when a load balancer has lost its other side.
type wire struct {
	listener net.Listener
	to       string
	cuts     atomic.Int32

	mu    sync.Mutex // guards the following
	conns []net.Conn
	wg    sync.WaitGroup
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: listener, to: to}
	w.wg.Go(w.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		w.mu.Lock()
		for _, conn := range w.conns {
			_ = conn.Close()
		}
		w.mu.Unlock()
		w.wg.Wait()
	})
	return w
}

func (w *wire) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.to)
		if err != nil {
			_ = near.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, near, far)
		w.mu.Unlock()
		made := w.cuts.Load()
		for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
			w.wg.Go(func() {
				_, _ = io.Copy(lossy{w, made, way[1]}, way[0])
				_ = way[1].Close()
			})
		}
	}
}

// lossy is one end of a connection that was made after so many cuts.
type lossy struct {
	wire *wire
	made int32
	conn net.Conn
}

func (w lossy) Write(data []byte) (int, error) {
	if w.wire.cuts.Load() > w.made {
		return len(data), nil
	}
	return w.conn.Write(data)
}

func TestAConnectionThatLeadsNowhereIsMadeAnew(t *testing.T) {
	server := newAPIServer(t)
	address := server.address()
	w := newWire(t, strings.TrimPrefix(address.URL, "https://"))
	address.URL = "https://" + w.listener.Addr().String()
	c := &client{server: address, timeout: time.Minute}
	t.Cleanup(func() { c.close() })
	event := object{APIVersion: "v1", Kind: "Event", Metadata: metadata{Name: "a", Namespace: "shop"}, InvolvedObject: reference{Namespace: "shop"}}
	if err := c.create(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	w.cuts.Add(1)
	c.http.Timeout = time.Second // in vain
	event.Metadata.Name = "b"
	if err := c.create(t.Context(), event); err == nil {
		t.Fatal("the connection was not cut")
	}
	if err := c.create(t.Context(), event); err != nil {
		t.Error(err)
	}
	if n := len(server.all()); n != 2 {
		t.Errorf("%d Events", n)
	}
}
