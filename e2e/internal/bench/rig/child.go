// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// Child is a process that takes orders on its input and answers on its output, as values of JSON. It serves one goroutine.
type Child struct {
	name    string
	cmd     *exec.Cmd
	input   io.WriteCloser
	orders  *json.Encoder
	answers *json.Decoder
}

// StartChild starts a command, whose name is for errors, and does not wait for it. What it says to people goes to standard error.
func StartChild(name string, cmd *exec.Cmd) (*Child, error) {
	c := &Child{name: name, cmd: cmd}
	cmd.Stderr = os.Stderr
	output, err := cmd.StdoutPipe()
	if err == nil {
		c.input, err = cmd.StdinPipe()
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c.orders, c.answers = json.NewEncoder(c.input), json.NewDecoder(output)
	return c, nil
}

// Send gives it an order.
func (c *Child) Send(order any) error {
	if err := c.orders.Encode(order); err != nil {
		return fmt.Errorf("give %s an order: %w", c.name, err)
	}
	return nil
}

// Receive waits for its next answer.
func (c *Child) Receive(answer any) error {
	if err := c.answers.Decode(answer); err != nil {
		return fmt.Errorf("hear of %s: %w", c.name, err)
	}
	return nil
}

// Close ends its input, which tells it to end, takes a last answer if one is wanted, and waits for its end.
func (c *Child) Close(last any) error {
	err := c.input.Close()
	if last != nil && err == nil {
		err = c.Receive(last)
	}
	if err := errors.Join(err, c.cmd.Wait()); err != nil {
		return fmt.Errorf("end %s: %w", c.name, err)
	}
	return nil
}
