// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/enclosure"
)

const (
	// run is where the daemon keeps sockets and pid files; inside an enclosure it goes with the namespace.
	run = "/run/neighpin-docker"

	// bridge is the daemon's default network. Nothing uses it, but left to itself the daemon would look for a free one.
	bridge = "172.31.255.1/24"

	startLimit = 3 * time.Minute
	stopLimit  = 2 * time.Minute
)

// Docker is a Docker daemon that runs inside an enclosure and keeps its images in the cache.
type Docker struct {
	cmd    *exec.Cmd
	lock   *os.File
	log    string
	exited chan struct{}
	err    error // why the process ended; written before exited is closed
}

// StartDocker starts the daemon, waits for it to answer and tidies its data. The caller must Close it.
func StartDocker(ctx context.Context, m Materials) (*Docker, error) {
	if err := os.MkdirAll(run, 0o700); err != nil {
		return nil, fmt.Errorf("make the daemon's folder: %w", err)
	}
	configuration := filepath.Join(run, "daemon.json")
	if err := os.WriteFile(configuration, []byte("{}"), 0o600); err != nil {
		return nil, fmt.Errorf("write the daemon's configuration: %w", err)
	}
	dockerd, err := lookPath("dockerd")
	if err != nil {
		return nil, err
	}
	lock, err := lockData(ctx, m)
	if err != nil {
		return nil, err
	}
	d := &Docker{lock: lock, log: filepath.Join(run, "log"), exited: make(chan struct{})}
	logFile, err := os.Create(d.log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the daemon's log: %w", err), lock.Close())
	}
	defer logFile.Close()
	d.cmd = exec.Command(dockerd,
		"--config-file", configuration,
		"--host", "unix://"+socket(),
		"--data-root", filepath.Join(m.Cache, "docker"),
		"--exec-root", filepath.Join(run, "exec"),
		"--pidfile", filepath.Join(run, "pid"),
		"--cgroup-parent", enclosure.CgroupParent(),
		"--exec-opt", "native.cgroupdriver=cgroupfs",
		"--bip", bridge,
		"--oom-score-adjust", "0",
		"--add-runtime", "within="+m.RuncWithin,
		"--default-runtime", "within",
	)
	d.cmd.Env = environment()
	d.cmd.Stdout, d.cmd.Stderr = logFile, logFile
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start dockerd: %w", err), lock.Close())
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.exited)
	}()
	if err := d.ready(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := d.tidy(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// lockData waits until no other run uses the daemon's data. The lock goes with the file, hence with the process.
func lockData(ctx context.Context, m Materials) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(m.Cache, "docker.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock Docker's data: %w", err)
	}
	err = await.Condition(ctx, "another run to end that uses "+m.Cache, func() error {
		return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock Docker's data: %w", err), file.Close())
	}
	return file, nil
}

func socket() string { return filepath.Join(run, "docker.sock") }

// environment is that of Docker's and kind's programs: the distribution's programs, this daemon, no proxies (kind would
// hand them on to the node), and no configuration of the user's.
func environment() []string {
	return []string{
		"PATH=" + searchPath,
		"HOME=" + run,
		"DOCKER_HOST=unix://" + socket(),
		"KUBECONFIG=" + filepath.Join(run, "kubeconfig"),
	}
}

// ready waits until the daemon answers on its socket.
func (d *Docker) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return await.Condition(ctx, "the Docker daemon", func() error {
		select {
		case <-d.exited:
			cancel()
			return fmt.Errorf("dockerd ended: %w\n%s", d.err, d.logTail())
		default:
		}
		connection, err := net.Dial("unix", socket())
		if err != nil {
			return err
		}
		return connection.Close()
	})
}

// tidy removes what was running when an earlier run was killed, and what has lost its name since.
func (d *Docker) tidy(ctx context.Context) error {
	ids, err := d.Output(ctx, nil, "ps", "--all", "--quiet")
	if err != nil {
		return err
	}
	if ids != "" {
		if _, err := d.Output(ctx, nil, append([]string{"rm", "--force", "--volumes"}, strings.Fields(ids)...)...); err != nil {
			return err
		}
	}
	_, err = d.Output(ctx, nil, "system", "prune", "--force", "--volumes")
	return err
}

// Output runs the docker command with stdin, which may be nil, and returns what it prints, without the last line feed.
func (d *Docker) Output(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	return d.execute(ctx, stdin, "docker", args...)
}

// builder is what the docker command builds an image by, as its environment says.
type builder string

const (
	classic  builder = "DOCKER_BUILDKIT=0" // keeps nothing of a large context
	buildKit builder = "DOCKER_BUILDKIT=1" // skips stages that are not used
)

// build builds an image.
func (d *Docker) build(ctx context.Context, by builder, context io.Reader, args ...string) error {
	cmd := command(ctx, "docker", append([]string{"build"}, args...)...)
	cmd.Env = append(environment(), string(by))
	cmd.Stdin = context
	return runLogged(cmd)
}

// execute runs a program against this daemon.
func (d *Docker) execute(ctx context.Context, stdin io.Reader, program string, args ...string) (string, error) {
	cmd := command(ctx, program, args...)
	cmd.Env = environment()
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("run %s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, tail(stdout.String()+stderr.String()))
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

// logTail is the end of the daemon's log.
func (d *Docker) logTail() string {
	data, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	return tail(string(data))
}

// Close stops the daemon and waits for its end. Containers go with it; images stay in the cache.
func (d *Docker) Close() error {
	defer d.lock.Close()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop dockerd: %w", err)
	}
	select {
	case <-d.exited:
		return nil
	case <-time.After(stopLimit):
	}
	err := d.cmd.Process.Kill()
	<-d.exited
	return errors.Join(fmt.Errorf("stop dockerd: still running after %s", stopLimit), err)
}
