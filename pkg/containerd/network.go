// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// process tells one run of containerd from the next: each needs a connection of its own.
type process struct {
	dials atomic.Uint64

	mu    sync.Mutex // guards the following, held while containerd is asked
	asked uint64     // what dials was then; zero: never
	one   bool       // the answer
}

// dial connects to containerd's socket.
func (s *Store) dial(ctx context.Context, _ string) (net.Conn, error) {
	s.process.dials.Add(1)
	var d net.Dialer
	return d.DialContext(ctx, "unix", s.socket)
}

// OneNetwork tells that containerd gives every pod one CNI network beside the loopback, as it does unless told otherwise
// (max_conf_num, and cni_max_conf_num of a handler): then the end of that network's plugins is the end of CNI's work. containerd
// reads this when it starts, so it is asked once for each connection. Whoever has had an answer
// of the store about a sandbox is told of the containerd that runs it.
func (s *Store) OneNetwork(ctx context.Context) (bool, error) {
	p := &s.process
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.dials.Load()
	if now != 0 && now == p.asked {
		return p.one, nil
	}
	answer, err := cri.NewRuntimeServiceClient(s.conn).Status(s.outgoing(ctx), &cri.StatusRequest{Verbose: true})
	if err != nil {
		return false, s.explain("ask CRI plugin", err)
	}
	var node Node
	if err := node.readCRI(answer.GetInfo()); err != nil {
		return false, s.explain("ask CRI plugin", err)
	}
	// The first connection is made by the question itself. Where it was lost meanwhile the next caller asks again.
	p.asked, p.one = max(now, 1), node.OneNetwork
	return p.one, nil
}
