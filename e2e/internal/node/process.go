// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// process is a child whose output goes to a file and whose end is waited for by exactly one goroutine.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	err error
}

// startProcess starts a program; its output is appended to the file log.
func startProcess(name, log string, env []string, program string, args ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	defer file.Close()
	p := &process{name: name, log: log, done: make(chan struct{})}
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = file, file
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		err := p.cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(p.done)
	}()
	return p, nil
}

// running returns nil or how the process ended.
func (p *process) running() error {
	select {
	case <-p.done:
		p.mu.Lock()
		defer p.mu.Unlock()
		return fmt.Errorf("%s has ended (%v); its log is %s:\n%s", p.name, p.err, p.log, tail(p.log)) //nolint:errorlint // nil if it ended well
	default:
		return nil
	}
}

// stop asks with SIGTERM and waits; one that does not end within the limit is killed, which is an error.
func (p *process) stop(ctx context.Context, limit time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	p.kill()
	return fmt.Errorf("stop %s: it did not end within %s of SIGTERM and was killed; its log is %s:\n%s", p.name, limit, p.log, tail(p.log))
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// exitCode is valid once the process has ended; -1 if a signal ended it.
func (p *process) exitCode() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if exit, ok := errors.AsType[*exec.ExitError](p.err); ok {
		return exit.ExitCode()
	}
	return 0
}

// tail is the end of a log, for errors.
func tail(path string) string {
	const most = 4096
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(data) > most {
		data = data[len(data)-most:]
	}
	return string(data)
}
