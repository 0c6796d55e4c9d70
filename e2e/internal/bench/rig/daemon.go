// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
)

// Patience bounds every wait for neighpin.
const Patience = time.Minute

// metricsAddress is where a daemon shows its metrics and profiles, in its own namespace's network.
const metricsAddress = "127.0.0.1:9717"

// DaemonOptions are what differs between sections.
type DaemonOptions struct {
	Program string
	Folder  string    // has its state and its log, which outlive it
	NetNS   string    // the folder of the pods' namespaces
	Socket  string    // NRI's
	Node    *netns.NS // the namespace that it runs in; nil: this process's
	Args    []string  // further flags
}

// Daemon is neighpin in a process of its own, without containerd. It ends with the enclosure, at the latest.
type Daemon struct {
	State string // folder of its records and of its socket

	cmd    *exec.Cmd
	log    string
	ended  chan struct{} // closed when it has
	status http.Client   // asks over the status socket
	port   http.Client   // asks at metricsAddress
}

// StartDaemon starts one and does not wait for it.
func StartDaemon(o DaemonOptions) (*Daemon, error) {
	d := &Daemon{State: filepath.Join(o.Folder, "state"), log: filepath.Join(o.Folder, "neighpin.log"), ended: make(chan struct{})}
	within := func(f func() error) error { return f() }
	if o.Node != nil {
		within = o.Node.Do
	}
	d.status = over(func() (net.Conn, error) { return net.Dial("unix", filepath.Join(d.State, "neighpin.sock")) })
	d.port = over(func() (conn net.Conn, err error) {
		err = within(func() error { conn, err = net.Dial("tcp", metricsAddress); return err })
		return conn, err
	})
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the daemon's log: %w", err)
	}
	defer log.Close()
	d.cmd = exec.Command(o.Program, append([]string{"plugin", "--state-dir", d.State, "--netns-dirs", o.NetNS, "--nri-socket", o.Socket,
		"--containerd-socket", "", "--metrics-address", metricsAddress, "--pprof"}, o.Args...)...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's ^C reaches it through this process
	if err := within(d.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Program, err)
	}
	go func() { // ends with the process
		_ = d.cmd.Wait()
		close(d.ended)
	}()
	return d, nil
}

// over is a client for one way to connect. It leaves no connection behind, of which the daemon would have a descriptor.
func over(dial func() (net.Conn, error)) http.Client {
	return http.Client{Timeout: Patience, Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return dial() },
	}}
}

// PID is the process's.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Processor is how much of the processor's time the daemon has had, that of threads that have ended included.
func (d *Daemon) Processor() (time.Duration, error) { return node.Ran(d.PID()) }

// Ready waits until it is connected and has taken over what was there.
func (d *Daemon) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	return d.Explain(await.Every(ctx, 5*time.Millisecond, "neighpin to be ready", func() error {
		select {
		case <-d.ended:
			cancel()
			return errors.New("it has ended")
		default:
		}
		_, err := ask(ctx, &d.status, "http://neighpin/ready")
		return err
	}))
}

// Rest waits until the daemon has had at most one part in share of a processor for the length of a pause: it compares what it took
// over, and nobody tells when that is over.
func (d *Daemon) Rest(ctx context.Context, pause time.Duration, share int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	last := time.Duration(-1)
	return await.Every(ctx, pause, "neighpin to be at rest", func() error {
		now, err := d.Processor()
		if err != nil {
			return err
		}
		used, first := now-last, last < 0
		last = now
		if first || used > pause/time.Duration(share) {
			return fmt.Errorf("look at its processor time: %v in %v", used, pause)
		}
		return nil
	})
}

// Sandboxes are all that the daemon knows, as it says itself.
func (d *Daemon) Sandboxes(ctx context.Context) ([]record.Record, error) {
	data, err := ask(ctx, &d.status, "http://neighpin/status")
	if err != nil {
		return nil, err
	}
	var status struct{ Sandboxes []record.Record }
	if err := json.Unmarshal(data, &status); err != nil {
		return nil, fmt.Errorf("decode the status: %w", err)
	}
	return status.Sandboxes, nil
}

// Get is what the daemon answers at its port: metrics and profiles.
func (d *Daemon) Get(ctx context.Context, path string) ([]byte, error) {
	return ask(ctx, &d.port, "http://"+metricsAddress+path)
}

// Save writes such an answer to a file.
func (d *Daemon) Save(ctx context.Context, path, file string) error {
	data, err := d.Get(ctx, path)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

// ask gets one answer.
func ask(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask neighpin: %w", err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("ask neighpin for %s: %s: %s", url, response.Status, bytes.TrimSpace(data))
	}
	return data, err
}

// Explain adds to an error what the daemon said last.
func (d *Daemon) Explain(err error) error {
	if err == nil {
		return nil
	}
	said, readErr := os.ReadFile(d.log)
	return errors.Join(err, readErr, fmt.Errorf("neighpin's log ends:\n%s", said[max(0, len(said)-2000):]))
}

// Close ends it in good order, or by force if that takes too long.
func (d *Daemon) Close() error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(Patience, func() { _ = d.cmd.Process.Kill() })
	defer kill.Stop()
	<-d.ended
	if state := d.cmd.ProcessState; !state.Success() {
		return d.Explain(fmt.Errorf("stop neighpin: it ended with %s", state))
	}
	return nil
}
