// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

// StateDir is neighpin's default.
const StateDir = "/run/neighpin"

// notAsItShouldBe is neighpin's exit code for "something is not pinned as it should be".
const notAsItShouldBe = 3

// Daemon is a running `neighpin plugin`.
type Daemon struct {
	node     *Node
	process  *process
	stateDir string
}

// DaemonOptions are what tests vary about neighpin.
type DaemonOptions struct {
	// StateDir is StateDir if empty.
	StateDir string
	// Args are further flags of `neighpin plugin`.
	Args []string
}

// StartDaemon starts neighpin and does not wait for it. Each has a log of its own.
func (n *Node) StartDaemon(options DaemonOptions) (*Daemon, error) {
	if options.StateDir == "" {
		options.StateDir = StateDir
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	name := fmt.Sprintf("neighpin-%d", len(n.daemons)+1)
	args := append([]string{"plugin", "--state-dir", options.StateDir, "--log-level", "debug"}, options.Args...)
	p, err := startProcess(name, filepath.Join(n.LogDir(), name+".log"), nil, n.programs.Neighpin(), args...)
	if err != nil {
		return nil, err
	}
	d := &Daemon{node: n, process: p, stateDir: options.StateDir}
	n.daemons = append(n.daemons, d)
	return d, nil
}

// Ready waits until the daemon says that it is connected to NRI and synchronized.
func (d *Daemon) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return await.Condition(ctx, d.process.name+" to be ready", func() error {
		if err := d.process.running(); err != nil {
			cancel()
			return err
		}
		_, _, err := d.node.CLI(ctx, "status", "--ready", "--state-dir", d.stateDir)
		return err
	})
}

// Stop ends the daemon with SIGTERM; it must then exit with 0.
func (d *Daemon) Stop(ctx context.Context) error {
	if err := d.process.running(); err != nil {
		return err
	}
	if err := d.process.stop(ctx, 10*time.Second); err != nil {
		return err
	}
	if code := d.process.exitCode(); code != 0 {
		return fmt.Errorf("stop %s: it exited with %d; its log is %s:\n%s", d.process.name, code, d.process.log, tail(d.process.log))
	}
	return nil
}

// Kill ends the daemon with SIGKILL. One that has ended is left alone.
func (d *Daemon) Kill() error {
	d.process.kill()
	return nil
}

// Running returns nil or how the daemon ended.
func (d *Daemon) Running() error { return d.process.running() }

// PID is the daemon's.
func (d *Daemon) PID() int { return d.process.cmd.Process.Pid }

// Log is all that the daemon wrote.
func (d *Daemon) Log() (string, error) {
	data, err := os.ReadFile(d.process.log)
	return string(data), err
}

// Records are the ids of the sandboxes that the daemon's state folder has a record of.
func (d *Daemon) Records() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(d.stateDir, "sandboxes", "*.json"))
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(files))
	for _, file := range files {
		name := filepath.Base(file)
		ids = append(ids, name[:len(name)-len(".json")])
	}
	return ids, nil
}

// Status asks the daemon through its socket. That something is not pinned as it should be (exit code 3) is a
// status like any other.
func (d *Daemon) Status(ctx context.Context) (Status, error) {
	var status Status
	out, code, err := d.node.CLI(ctx, "status", "-o", "json", "--state-dir", d.stateDir)
	if err != nil && code != notAsItShouldBe {
		return status, err
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return status, fmt.Errorf("parse the status: %w\n%s", err, out)
	}
	return status, nil
}

// Sandbox is what the daemon says about a pod's sandbox.
func (d *Daemon) Sandbox(ctx context.Context, p *Pod) (Sandbox, error) {
	status, err := d.Status(ctx)
	if err != nil {
		return Sandbox{}, err
	}
	for _, sandbox := range status.Sandboxes {
		if sandbox.ID == p.ID {
			return sandbox, nil
		}
	}
	return Sandbox{}, fmt.Errorf("find sandbox %s of pod %s/%s in the status: it is not there", p.ID, p.Namespace, p.Name)
}

// CLI runs a command of the neighpin binary and returns its output and exit code; an exit code other than 0
// is an error too.
func (n *Node) CLI(ctx context.Context, args ...string) (stdout string, code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, n.programs.Neighpin(), args...)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		code = -1
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		}
		return out.String(), code, fmt.Errorf("neighpin %v: %w\n%s", args, err, complaint.String())
	}
	return out.String(), 0, nil
}
