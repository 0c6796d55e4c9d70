// SPDX-License-Identifier: Apache-2.0

package pairs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/enclosure"
)

// remote is a node as this process sees it. It serves one goroutine.
type remote struct {
	name    string
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	orders  *json.Encoder
	answers *json.Decoder
}

// startRemote starts a node and does not wait for it.
func startRemote(ctx context.Context, name string) (*remote, error) {
	r := &remote{name: name, cmd: enclosure.Command(ctx, Child)}
	r.cmd.Stderr = os.Stderr
	r.cmd.WaitDelay = 10 * time.Second
	out, err := r.cmd.StdoutPipe()
	if err == nil {
		r.stdin, err = r.cmd.StdinPipe()
	}
	if err == nil {
		err = r.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start node %s: %w", name, err)
	}
	r.orders, r.answers = json.NewEncoder(r.stdin), json.NewDecoder(out)
	return r, nil
}

// do has the node follow an order.
func (r *remote) do(o order) (a answer, err error) {
	if err = r.orders.Encode(o); err == nil {
		err = r.answers.Decode(&a)
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
func (r *remote) close() error {
	if err := errors.Join(r.stdin.Close(), r.cmd.Wait()); err != nil {
		return fmt.Errorf("end node %s: %w", r.name, err)
	}
	return nil
}

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
