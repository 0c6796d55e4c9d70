// SPDX-License-Identifier: Apache-2.0

package scale

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

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

// metricsAddress is where the daemon shows its heap, in the node's namespace.
const metricsAddress = "127.0.0.1:19399"

// daemon is a running neighpin.
type daemon struct {
	cmd    *exec.Cmd
	log    string
	ended  chan struct{} // closed when it has
	state  string        // folder of its records and of its socket
	node   *netns.NS
	socket http.Client // asks over the status socket
	port   http.Client // asks at metricsAddress
}

// startDaemon starts neighpin as it is by default, but for what the section is about, in the node's namespace.
func startDaemon(program, folder string, c *cluster) (*daemon, error) {
	d := &daemon{state: filepath.Join(folder, "state"), log: filepath.Join(folder, "neighpin.log"), ended: make(chan struct{}), node: c.node}
	over := func(dial func() (net.Conn, error)) http.Client {
		return http.Client{Timeout: time.Minute, Transport: &http.Transport{
			DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return dial() },
		}}
	}
	d.socket = over(func() (net.Conn, error) { return net.Dial("unix", filepath.Join(d.state, "neighpin.sock")) })
	d.port = over(func() (conn net.Conn, err error) {
		err = d.node.Do(func() error { conn, err = net.Dial("tcp", metricsAddress); return err })
		return conn, err
	})
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the daemon's log: %w", err)
	}
	defer log.Close()
	d.cmd = exec.Command(program, "plugin", "--state-dir", d.state, "--netns-dirs", c.folder, "--nri-socket", filepath.Join(folder, "nri.sock"),
		"--containerd-socket", "", "--handlers", handler, "--annotate", handler, "--metrics-address", metricsAddress, "--pprof")
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's ^C reaches it through this process
	if err := c.node.Do(d.cmd.Start); err != nil {
		return nil, fmt.Errorf("start neighpin: %w", err)
	}
	go func() { // ends with the process
		_ = d.cmd.Wait()
		close(d.ended)
	}()
	return d, nil
}

// stop ends it in good order.
func (d *daemon) stop(ctx context.Context) error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop neighpin: %w", err)
	}
	select {
	case <-d.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		return d.explain(fmt.Errorf("stop neighpin: it exited with %d", code))
	}
	return nil
}

// kill ends it, if it has not ended.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	<-d.ended
}

// explain adds what the daemon said last.
func (d *daemon) explain(err error) error {
	data, readErr := os.ReadFile(d.log)
	return errors.Join(err, readErr, fmt.Errorf("its log ends:\n%s", data[max(0, len(data)-2000):]))
}

// ready waits until it is connected and has taken over what was there.
func (d *daemon) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := await.Every(ctx, 5*time.Millisecond, "neighpin to be ready", func() error {
		select {
		case <-d.ended:
			cancel()
			return errors.New("it has ended")
		default:
		}
		_, err := d.ask(ctx, &d.socket, "http://neighpin/ready")
		return err
	})
	if err != nil {
		return d.explain(err)
	}
	return nil
}

// ask gets one answer.
func (d *daemon) ask(ctx context.Context, client *http.Client, url string) ([]byte, error) {
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

// settled waits until the daemon says of that many pods what it should, and is at rest.
func (d *daemon) settled(ctx context.Context, pods []*pod) error {
	waiting, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	// It rests for a moment, too, when others hold the kernel's locks.
	if err := await.Every(waiting, time.Second, "neighpin to know all pods", func() error {
		if err := d.rest(waiting); err != nil {
			return err
		}
		return d.check(waiting, pods)
	}); err != nil {
		return d.explain(err)
	}
	return d.rest(ctx)
}

// check says what is wrong with what the daemon says of that many pods.
func (d *daemon) check(ctx context.Context, pods []*pod) error {
	data, err := d.ask(ctx, &d.socket, "http://neighpin/status")
	if err != nil {
		return err
	}
	var status struct{ Sandboxes []sandbox.Record }
	if err := json.Unmarshal(data, &status); err != nil {
		return fmt.Errorf("decode the status: %w", err)
	}
	if len(status.Sandboxes) != len(pods) {
		return fmt.Errorf("count the sandboxes that neighpin knows: %d, want %d", len(status.Sandboxes), len(pods))
	}
	byPath := make(map[string]sandbox.Record)
	for _, rec := range status.Sandboxes {
		byPath[rec.NetNS.Path] = rec
	}
	for _, p := range pods {
		rec := byPath[p.path]
		if rec.Phase != sandbox.Started || rec.Timing.Verdict != sandbox.Unproven || len(rec.Neighbors) != 2 || rec.Error != "" {
			return fmt.Errorf("look at what neighpin says of pod %d: %+v", p.number, rec)
		}
		for _, n := range rec.Neighbors {
			if string(n.LLAddr) != p.lladdr.String() {
				return fmt.Errorf("look at what neighpin has pinned in pod %d: %+v, want %s", p.number, n, p.lladdr)
			}
		}
	}
	return nil
}

// processor is the time that the daemon has had of a processor, that of threads that have ended included.
func (d *daemon) processor() (time.Duration, error) {
	const scheduled = 2                               // CPUCLOCK_SCHED of include/linux/posix-timers.h
	clock := int32(^d.cmd.Process.Pid<<3 | scheduled) // as clock_getcpuclockid(3) makes it
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("read the daemon's processor time: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// rest waits until the daemon has had next to no processor for a while: it compares what it took over, and nobody tells when
// that is over.
func (d *daemon) rest(ctx context.Context) error {
	const pause, share = 300 * time.Millisecond, 100
	last := time.Duration(0)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return await.Every(ctx, pause, "neighpin to be at rest", func() error {
		now, err := d.processor()
		if err != nil {
			return err
		}
		used := now - last
		last = now
		if used > pause/share {
			return fmt.Errorf("look at its processor time: %v in %v", used, pause)
		}
		return nil
	})
}

// idle is the share of a processor, in percent, that the daemon has over a time in which nothing happens.
func (d *daemon) idle(ctx context.Context, period time.Duration) (float64, error) {
	before, err := d.processor()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	select {
	case <-time.After(period):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := d.processor()
	return 100 * (after - before).Seconds() / time.Since(began).Seconds(), err
}

// size is what the daemon holds.
type size struct {
	resident, peak int64 // bytes (VmRSS and VmHWM of /proc/PID/status)
	heap           int64 // bytes in use after a collection
	descriptors    int
}

// measure finds the daemon's size. The heap comes last: asking for it collects garbage, from which the resident size would gain.
func (d *daemon) measure(ctx context.Context) (s size, err error) {
	proc := fmt.Sprintf("/proc/%d/", d.cmd.Process.Pid)
	data, err := os.ReadFile(proc + "status")
	if err != nil {
		return s, fmt.Errorf("read the daemon's size: %w", err)
	}
	descriptors, err := os.ReadDir(proc + "fd")
	if err != nil {
		return s, fmt.Errorf("count the daemon's descriptors: %w", err)
	}
	s.descriptors = len(descriptors)
	profile, err := d.ask(ctx, &d.port, "http://"+metricsAddress+"/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return s, err
	}
	for _, figure := range []struct {
		to     *int64
		form   string
		factor int64
		in     []byte
	}{{&s.resident, "VmRSS: %d kB", 1 << 10, data}, {&s.peak, "VmHWM: %d kB", 1 << 10, data}, {&s.heap, "# HeapInuse = %d", 1, profile}} {
		for line := range bytes.Lines(figure.in) {
			_, _ = fmt.Sscanf(string(line), figure.form, figure.to) // other lines do not match
		}
		if *figure.to *= figure.factor; *figure.to == 0 {
			return s, fmt.Errorf("find the daemon's size: nothing says %q", figure.form)
		}
	}
	return s, nil
}

// saveHeap keeps a profile of the heap.
func (d *daemon) saveHeap(ctx context.Context, path string) error {
	data, err := d.ask(ctx, &d.port, "http://"+metricsAddress+"/debug/pprof/heap?gc=1")
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}
