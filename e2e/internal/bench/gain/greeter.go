// SPDX-License-Identifier: Apache-2.0

package gain

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// greeter answers each TCP connection with one byte, on every address of the namespace.
type greeter struct {
	listener net.Listener
	serving  sync.WaitGroup
}

// greet starts a greeter in the namespace of this process, at a port that the kernel chooses. Whatever holds that many
// connections at once must be kept waiting by the network alone: the kernel's queue takes 4096 of them.
func greet(ctx context.Context) (*greeter, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "[::]:0")
	if err != nil {
		return nil, fmt.Errorf("listen for connections: %w", err)
	}
	g := &greeter{listener: listener}
	g.serving.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = connection.Write([]byte{'!'}) // who is not greeted says so
			connection.Close()
		}
	})
	return g, nil
}

// at is where the greeter is reached by an address of the node.
func (g *greeter) at(ip netip.Addr) netip.AddrPort {
	return netip.AddrPortFrom(ip, uint16(g.listener.Addr().(*net.TCPAddr).Port))
}

// Close ends it.
func (g *greeter) Close() error {
	err := g.listener.Close()
	g.serving.Wait()
	return err
}
