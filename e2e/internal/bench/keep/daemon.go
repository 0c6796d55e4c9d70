// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

const (
	// metricsAddress is in an enclosure's own network.
	metricsAddress = "127.0.0.1:9717"
	// patience bounds every wait for the daemon.
	patience = 30 * time.Second
)

// daemon is neighpin in a process of its own.
type daemon struct {
	cmd    *exec.Cmd
	log    *os.File
	client http.Client
}

// startDaemon starts program and returns when the runtime serves it. Records are kept in folder from one to the next.
func startDaemon(ctx context.Context, program, folder string, rt *runtime, compare time.Duration) (_ *daemon, err error) {
	d := &daemon{}
	if d.log, err = os.OpenFile(filepath.Join(folder, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, fmt.Errorf("make the daemon's log: %w", err)
	}
	d.cmd = exec.Command(program, "plugin", "--nri-socket", rt.socket, "--containerd-socket", "", "--state-dir", filepath.Join(folder, "state"),
		"--netns-dirs", filepath.Join(folder, "netns"), "--metrics-address", metricsAddress, "--pprof", "--compare-interval", compare.String())
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), d.log.Close())
	}
	if err := await.Within(ctx, patience, "the daemon to be synchronized", func() error {
		_, err := d.get("/readyz")
		return err
	}); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	rt.settle()
	return d, nil
}

// Close stops it and waits for its end.
func (d *daemon) Close() error {
	d.client.CloseIdleConnections()
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(patience, func() { _ = d.cmd.Process.Kill() })
	defer kill.Stop()
	if err := errors.Join(d.cmd.Wait(), d.log.Close()); err != nil {
		said, _ := os.ReadFile(d.log.Name())
		return fmt.Errorf("stop the daemon: %w; it said: %s", err, said[max(0, len(said)-1000):])
	}
	return nil
}

func (d *daemon) get(path string) ([]byte, error) {
	response, err := d.client.Get("http://" + metricsAddress + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("get %s: %s: %s", path, response.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// processor is how much of the processor's time the daemon has had (the clock of another process, clock_getcpuclockid(3)).
func (d *daemon) processor() (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED, include/linux/posix-timers_types.h
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^d.cmd.Process.Pid)<<3|schedClock, &t); err != nil {
		return 0, fmt.Errorf("read the processor's time of the daemon: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// counts are the daemon's own.
type counts map[string]float64

// The metrics that are read.
const (
	messagesHeard = "neighpin_host_messages_total"
	comparisons   = `neighpin_looks_total{cause="comparison"}`
	takeovers     = `neighpin_looks_total{cause="takeover"}`
	started       = `neighpin_sandboxes{phase="started"}`
	starting      = `neighpin_sandboxes{phase="starting"}`
	notPinned     = "neighpin_gateways_skipped"
	stale         = "neighpin_stale_copies"
)

// looks is how often the daemon has looked at a pod, whatever the cause.
func (c counts) looks() float64 { return c.sum("neighpin_looks_total") }

// sum is that of all series of a metric.
func (c counts) sum(name string) (sum float64) {
	for series, value := range c {
		if metric, _, _ := strings.Cut(series, "{"); metric == name {
			sum += value
		}
	}
	return sum
}

// metrics reads them.
func (d *daemon) metrics() (counts, error) {
	text, err := d.get("/metrics")
	if err != nil {
		return nil, err
	}
	all := make(counts)
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		if all[line[:at]], err = strconv.ParseFloat(line[at+1:], 64); err != nil {
			return nil, fmt.Errorf("read metric %s: %w", line, err)
		}
	}
	return all, nil
}

// rested waits until the daemon has done what there was to do: it knows that many pods, all have started, and it has not looked at any for a
// while.
func (d *daemon) rested(ctx context.Context, pods int) error {
	var last float64
	var since time.Time
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return await.Every(ctx, 100*time.Millisecond, "the daemon to rest", func() error {
		m, err := d.metrics()
		if err != nil {
			return err
		}
		if m[started] != float64(pods) || m[starting] != 0 || m.sum(notPinned) != 0 {
			return fmt.Errorf("%.0f pods have started, %.0f are starting, want %d; %.0f gateways are not pinned", m[started], m[starting], pods, m.sum(notPinned))
		}
		if now := m.looks() + m[messagesHeard]; now != last || since.IsZero() {
			last, since = now, time.Now()
		}
		if quiet := time.Since(since); quiet < time.Second {
			return fmt.Errorf("it has looked, or heard something, %s ago", quiet)
		}
		return nil
	})
}
