// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

const (
	// interval is that of the slow comparisons that are measured, the shortest there is.
	interval = time.Second
	// inOne is how many pods are compared in an interval; with more of them a round of all takes more intervals (pkg/internal/guard/rounds.go).
	inOne = 250
)

// round is how long a slow comparison of all pods takes with that interval, give or take a tenth.
func (s *stage) round() time.Duration {
	return interval * time.Duration(max(inOne, len(s.pods))) / inOne
}

// compared measures slow comparisons of all pods: first the processor's time, then the requests, under strace.
func (s *stage) compared(ctx context.Context, f *figures) error {
	s.env.Say("comparing them all, again and again")
	return s.with(ctx, interval, func(d *daemon) (err error) {
		if err = s.begun(ctx, d); err != nil {
			return err
		}
		// A comparison of all is in it, and some more.
		if f.round, err = s.window(ctx, d, s.round()*3/2+interval, 0); err != nil {
			return err
		}
		if f.round.looks < float64(len(s.pods)) {
			return fmt.Errorf("compare %d pods: the daemon has looked at %.0f in %v", len(s.pods), f.round.looks, f.round.took)
		}
		f.requests, err = s.traced(ctx, d)
		return err
	})
}

// begun waits for the first slow comparison: then what a takeover leads to is over.
func (s *stage) begun(ctx context.Context, d *daemon) error {
	return await.Within(ctx, patience, "the first slow comparison", func() error {
		m, err := d.Metrics(ctx)
		if err == nil && m[comparisons] == 0 {
			err = errors.New("there was none")
		}
		return err
	})
}

// Calls that are counted: one opens the namespace, once in each comparison, the other is a request to the kernel.
var (
	openings = regexp.MustCompile(`(?m)openat\([^"]*"[^"]*/netns/pod[0-9]+"`)
	sendings = regexp.MustCompile(`(?m)(?:write|sendto|sendmsg)\([0-9]+<NETLINK:`)
)

// traced counts the requests of one comparison, in a window of time.
func (s *stage) traced(ctx context.Context, d *daemon) (float64, error) {
	out := filepath.Join(s.folder, "trace")
	cmd := exec.Command("strace", "-f", "-qq", "-yy", "-e", "trace=openat,write,sendto,sendmsg", "-e", "signal=none", "-o", out, "-p", strconv.Itoa(d.PID()))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start strace: %w", err)
	}
	err := await.Within(ctx, patience, "comparisons in the trace", func() error {
		seen, _, err := counted(out)
		if want := min(inOne, len(s.pods)); err == nil && seen < want {
			err = fmt.Errorf("%d of %d", seen, want)
		}
		return err
	})
	_ = cmd.Process.Signal(syscall.SIGINT) // it lets go of the daemon
	if ended := cmd.Wait(); err != nil {
		return 0, errors.Join(err, ended, errors.New(said.String()))
	}
	opened, sent, err := counted(out)
	if err != nil {
		return 0, err
	}
	return float64(sent) / float64(opened), nil
}

func counted(path string) (opened, sent int, err error) {
	trace, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, fmt.Errorf("read the trace: %w", err)
	}
	return len(openings.FindAll(trace, -1)), len(sendings.FindAll(trace, -1)), nil
}

// profile keeps a profile of a daemon that hears the noise, if that is wanted.
func (s *stage) profile(ctx context.Context, d *daemon) error {
	if s.env.Profiles == "" {
		return nil
	}
	const seconds = 5
	s.env.Say("a profile while there is noise, %d s", seconds)
	during, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		_, err := s.noise.run(during, s.plan.rates[len(s.plan.rates)-1])
		done <- err
	}()
	err := d.Save(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds), filepath.Join(s.env.Profiles, "keep-noise.pprof"))
	stop()
	return errors.Join(err, <-done)
}
