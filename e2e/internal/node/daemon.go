// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

// StateDir is neighpin's default.
const StateDir = "/run/neighpin"

// notAsItShouldBe is neighpin's exit code for "something is not pinned as it should be".
const notAsItShouldBe = 3

// Daemon is a running `neighpin plugin`.
type Daemon struct {
	Said
	process *process
}

// DaemonOptions are what tests vary about neighpin.
type DaemonOptions struct {
	// StateDir is StateDir if empty.
	StateDir string
	// Args are further flags of `neighpin plugin`.
	Args []string
	// Program is what runs instead of the product's binary.
	Program string
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
	p, err := startProcess(name, filepath.Join(n.LogDir(), name+".log"), nil, cmp.Or(options.Program, n.programs.Neighpin()), args...)
	if err != nil {
		return nil, err
	}
	d := &Daemon{Said: Said{node: n, stateDir: options.StateDir}, process: p}
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
	if err := d.process.stop(ctx, stopLimit); err != nil {
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

// ExitCode is that of a daemon that has ended; -1 if a signal ended it.
func (d *Daemon) ExitCode() int { return d.process.exitCode() }

// PID is the daemon's.
func (d *Daemon) PID() int { return d.process.cmd.Process.Pid }

// Memory is what a process uses, in units of 1024 bytes (VmRSS and VmHWM of /proc/PID/status).
type Memory struct {
	ResidentKB, PeakKB int
}

// Memory is what the daemon uses now.
func (d *Daemon) Memory() (Memory, error) {
	path := fmt.Sprintf("/proc/%d/status", d.PID())
	data, err := os.ReadFile(path)
	if err != nil {
		return Memory{}, fmt.Errorf("read the daemon's memory: %w", err)
	}
	var memory Memory
	for line := range strings.Lines(string(data)) {
		for format, value := range map[string]*int{"VmRSS: %d kB": &memory.ResidentKB, "VmHWM: %d kB": &memory.PeakKB} {
			_, _ = fmt.Sscanf(line, format, value) // the other lines do not match
		}
	}
	if memory.ResidentKB == 0 || memory.PeakKB == 0 {
		return Memory{}, fmt.Errorf("read the daemon's memory: %s names none", path)
	}
	return memory, nil
}

// Log is all that the daemon wrote.
func (d *Daemon) Log() (string, error) {
	data, err := os.ReadFile(d.process.log)
	return string(data), err
}

// CLI runs a command of the neighpin binary and returns its output and exit code; an exit code other than 0
// is an error too.
func (n *Node) CLI(ctx context.Context, args ...string) (stdout string, code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
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
