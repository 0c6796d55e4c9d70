// SPDX-License-Identifier: Apache-2.0

package repair

import (
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
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

// patience bounds every wait for neighpin.
const patience = 30 * time.Second

// daemon is neighpin in a process of its own.
type daemon struct {
	cmd   *exec.Cmd
	log   *os.File
	state string
}

// address is where its metrics and profiles are, in an enclosure's own network.
const daemonAddress = "127.0.0.1:9720"

// startDaemon starts program for the pods of a segment.
func startDaemon(program, folder, socket string, s *segment) (_ *daemon, err error) {
	d := &daemon{state: filepath.Join(folder, "state")}
	if d.log, err = os.Create(filepath.Join(folder, "log")); err != nil {
		return nil, fmt.Errorf("make the daemon's log: %w", err)
	}
	d.cmd = exec.Command(program, "plugin", "--nri-socket", socket, "--containerd-socket", "", "--state-dir", d.state,
		"--netns-dirs", s.folder, "--handlers", handler, "--annotate", handler, "--metrics-address", daemonAddress, "--pprof", "--compare-interval", "1h")
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), d.log.Close())
	}
	return d, nil
}

// recorded waits until every pod's record is on disk, has started, and says that both gateways have that address.
func (d *daemon) recorded(ctx context.Context, address string, pods int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return await.Every(ctx, 100*time.Millisecond, "every pod's record to say "+address, func() error {
		records, err := sandbox.RecordsIn(d.state).List()
		if err != nil {
			return err
		}
		right := 0
		for _, rec := range records {
			if rec.Phase == sandbox.Started && len(rec.Neighbors) == 2 && rec.Neighbors[0].LLAddr == neighbor.HardwareAddr(address) &&
				rec.Neighbors[1].LLAddr == neighbor.HardwareAddr(address) && rec.Neighbors[0].Source == neighbor.SourceHost {
				right++
			}
		}
		if right != pods {
			return fmt.Errorf("%d do, of %d; want %d", right, len(records), pods)
		}
		return nil
	})
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

// profile has the daemon write where its processor's time goes in the next seconds to a file.
func (d *daemon) profile(ctx context.Context, path string, seconds int) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make the profile's file: %w", err)
	}
	return errors.Join(d.get(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds), file), file.Close())
}

// looks is how often the daemon has looked at a pod, whatever the cause.
func (d *daemon) looks(ctx context.Context) (all float64, err error) {
	var text bytes.Buffer
	if err := d.get(ctx, "/metrics", &text); err != nil {
		return 0, err
	}
	for line := range strings.Lines(text.String()) {
		if strings.HasPrefix(line, "neighpin_looks_total{") {
			_, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			count, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, fmt.Errorf("read the daemon's metrics: %w", err)
			}
			all += count
		}
	}
	return all, nil
}

// get copies what the daemon answers.
func (d *daemon) get(ctx context.Context, path string, to io.Writer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+daemonAddress+path, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(to, response.Body); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the daemon for %s: %s: %w", path, response.Status, err)
	}
	return nil
}

// Close stops it and waits for its end.
func (d *daemon) Close() error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(patience, func() { _ = d.cmd.Process.Kill() })
	defer kill.Stop()
	if err := errors.Join(d.cmd.Wait(), d.log.Close()); err != nil {
		said, _ := os.ReadFile(d.log.Name())
		return fmt.Errorf("stop the daemon: %w; it said: %s", err, bytes.TrimSpace(said[max(0, len(said)-1000):]))
	}
	return nil
}
