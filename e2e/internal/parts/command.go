// SPDX-License-Identifier: Apache-2.0

package parts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// command is one run of the Go command that takes long enough to report on.
type command struct {
	label string
	dir   string
	args  []string
}

// environment is that of every Go command here. Without cgo the programs run anywhere, also in the empty
// root folder that runsc gives its sandbox process; flags and workspaces of the user's own would change what
// is built.
func environment() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
}

// run runs the Go command and reports its progress, which it reads from what `go build -v` writes to stderr:
// a line per package. Other lines are kept for the error.
func (b *Builder) run(ctx context.Context, c command) error {
	cmd := exec.CommandContext(ctx, "go", c.args...)
	cmd.Dir = c.dir
	cmd.Env = environment()
	// The compilers are the Go command's children: all of them go, also when this process is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second

	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	var state progress
	var reading sync.WaitGroup
	reading.Go(func() { state.read(reader) })
	ended := make(chan error, 1)
	var reporting sync.WaitGroup
	reporting.Go(func() { b.report(c.label, &state, ended) })

	err := cmd.Run()
	writer.Close()
	reading.Wait()
	ended <- err
	reporting.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(c.args, " "), err, state.complaints())
	}
	return nil
}

// report writes a line per interval until the command has ended, and one more if there was such a line and all went well.
func (b *Builder) report(label string, state *progress, ended <-chan error) {
	start := time.Now()
	ticker := time.NewTicker(b.interval)
	defer ticker.Stop()
	for reported := false; ; reported = true {
		select {
		case <-ticker.C:
			fmt.Fprintf(b.progress, "%s: %s, %s\n", label, since(start), state.now())
		case err := <-ended:
			if reported && err == nil {
				fmt.Fprintf(b.progress, "%s: done, %s\n", label, since(start))
			}
			return
		}
	}
}

func since(start time.Time) time.Duration { return time.Since(start).Round(time.Second) }

// keptComplaints is how many lines that name no package an error quotes: the last ones matter.
const keptComplaints = 20

// downloading begins the line by which the Go command tells of a module.
const downloading = "go: downloading "

// progress is how far a build has come.
type progress struct {
	mu       sync.Mutex
	modules  int // downloaded
	packages int // compiled, or being compiled
	last     string
	other    []string
}

// read takes in the Go command's output until its end.
func (p *progress) read(output io.Reader) {
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.line(lines.Text())
	}
	// A line too long to scan ends the scan, not the build: the rest must not block it.
	_, _ = io.Copy(io.Discard, output)
}

func (p *progress) line(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case strings.HasPrefix(line, downloading):
		p.modules++
		p.last = strings.TrimPrefix(line, downloading)
	case !strings.ContainsAny(line, " \t:#") && line != "":
		p.packages++
		p.last = line
	default:
		p.other = append(p.other, line)
		if len(p.other) > keptComplaints {
			p.other = p.other[1:]
		}
	}
}

// now is what the Go command is at. Of linking it says nothing, which comes last and takes its time.
func (p *progress) now() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.packages > 0:
		return fmt.Sprintf("%d packages compiled, last %s", p.packages, p.last)
	case p.modules > 0:
		return fmt.Sprintf("%d modules downloaded, last %s", p.modules, p.last)
	}
	return "resolving modules, or linking"
}

func (p *progress) complaints() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.other, "\n")
}

// output runs a short Go command and returns what it prints.
func output(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = environment()
	data, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(data)), nil
}

// lock takes the lock file at path and returns how to let go of it. It calls waiting once if somebody else
// has it. The lock is the kernel's (flock), so it goes with its holder, however that one ends.
func lock(ctx context.Context, path string, waiting func()) (func(), error) {
	file, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for first := true; ; first = false {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			file.Close()
			return nil, err
		}
		if first {
			waiting()
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, ctx.Err()
		case <-ticker.C:
		}
	}
}
