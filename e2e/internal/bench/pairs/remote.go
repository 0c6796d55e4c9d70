// SPDX-License-Identifier: Apache-2.0

package pairs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/e2e/internal/enclosure"
)

// remote is a node as this process sees it. It serves one goroutine.
type remote struct {
	name  string
	child *rig.Child
}

// startRemote starts a node and does not wait for it.
func startRemote(ctx context.Context, name string) (*remote, error) {
	cmd := enclosure.Command(ctx, Child)
	cmd.WaitDelay = 10 * time.Second
	child, err := rig.StartChild("node "+name, cmd)
	if err != nil {
		return nil, err
	}
	return &remote{name, child}, nil
}

// do has the node follow an order.
func (r *remote) do(o order) (a answer, err error) {
	if err = r.child.Send(o); err == nil {
		err = r.child.Receive(&a)
	}
	if err == nil && a.Err != "" {
		err = errors.New(a.Err)
	}
	if err != nil {
		return a, fmt.Errorf("have node %s %s: %w", r.name, o.Do, err)
	}
	return a, nil
}

// close ends the node with all that is on it.
func (r *remote) close() error { return r.child.Close(nil) }

// both has both nodes follow an order at the same time.
func both(nodes [2]*remote, o order) error {
	errs := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() {
			_, err := n.do(o)
			errs <- err
		}()
	}
	return errors.Join(<-errs, <-errs)
}
