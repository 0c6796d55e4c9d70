// SPDX-License-Identifier: Apache-2.0

package nritrip

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

// Child is the argument by which this program is started as a plugin that does nothing: see RunChild.
const Child = "nri-empty"

// empty subscribes to what neighpin subscribes to, and counts.
type empty struct {
	calls  map[string]int
	synced chan struct{}
}

// Synchronize takes what is there.
func (e *empty) Synchronize(context.Context, []*api.PodSandbox, []*api.Container) ([]*api.ContainerUpdate, error) {
	close(e.synced) // there is one runtime, which does not go away
	return nil, nil
}

// RunPodSandbox does nothing.
func (e *empty) RunPodSandbox(context.Context, *api.PodSandbox) error {
	e.calls[runPodSandbox]++ // the runtime asks one thing at a time
	return nil
}

// CreateContainer does nothing.
func (e *empty) CreateContainer(context.Context, *api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	e.calls[createContainer]++
	return nil, nil, nil
}

// StopPodSandbox does nothing.
func (e *empty) StopPodSandbox(context.Context, *api.PodSandbox) error { return nil }

// RemovePodSandbox does nothing.
func (e *empty) RemovePodSandbox(context.Context, *api.PodSandbox) error { return nil }

// RunChild is that plugin, for the socket that is the only argument. It says when it is synchronized, by a line, and at the
// end of its input how often it was called, by another.
func RunChild(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("run the empty plugin: want the path of NRI's socket")
	}
	plugin := &empty{calls: make(map[string]int), synced: make(chan struct{})}
	s, err := stub.New(plugin, stub.WithSocketPath(args[0]), stub.WithPluginName("empty"), stub.WithPluginIdx("10"), stub.WithLogger(silent{}))
	if err != nil {
		return fmt.Errorf("prepare the empty plugin: %w", err)
	}
	if err := s.Start(ctx); err != nil {
		return fmt.Errorf("start the empty plugin: %w", err)
	}
	<-plugin.synced
	fmt.Println("synchronized")
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Stop()
	return json.NewEncoder(os.Stdout).Encode(plugin.calls)
}

// silent is a logger for those that have nothing to say.
type silent struct{}

func (silent) Debugf(context.Context, string, ...any) {}
func (silent) Infof(context.Context, string, ...any)  {}
func (silent) Warnf(context.Context, string, ...any)  {}
func (silent) Errorf(context.Context, string, ...any) {}

// emptyProcess is an empty plugin that runs.
type emptyProcess struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

// startEmpty starts one and returns when it is synchronized.
func startEmpty(ctx context.Context, socket string) (*emptyProcess, error) {
	p := &emptyProcess{cmd: exec.CommandContext(ctx, "/proc/self/exe", Child, socket)}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.stdin, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the empty plugin: %w", err)
	}
	p.lines = bufio.NewScanner(out)
	if !p.lines.Scan() {
		return nil, fmt.Errorf("start the empty plugin: it has ended: %w", errors.Join(p.stdin.Close(), p.cmd.Wait()))
	}
	return p, nil
}

// stop ends it and returns how often it was called.
func (p *emptyProcess) stop() (calls map[string]int, err error) {
	err = p.stdin.Close()
	if p.lines.Scan() {
		err = errors.Join(err, json.Unmarshal(p.lines.Bytes(), &calls))
	}
	if err := errors.Join(err, p.lines.Err(), p.cmd.Wait()); err != nil {
		return nil, fmt.Errorf("stop the empty plugin: %w", err)
	}
	return calls, nil
}
