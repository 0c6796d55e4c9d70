// SPDX-License-Identifier: Apache-2.0

// Package enclosure lets a program run again in namespaces of its own, so that whatever it does to
// networks, mounts and processes happens to nobody else and is gone when it ends.
//
// A test binary (from TestMain) or a command (from main) calls Main, which runs the same binary with the
// same arguments in four roles:
//
//	outer    the process that was started: prepares, clones, passes signals on, waits
//	guard    outlives the outer process, also when that one is killed, and removes the cgroups
//	init     process 1 of the new PID namespace: mounts, then collects orphans
//	inside   the program proper, child of init
//
// Inside, /run is empty and the namespace's own (and with it /run/netns, /run/containerd and every default
// socket), /var/lib takes writes that nobody else sees, the network has a loopback device and no way out.
// When init dies the kernel kills everything inside; when the outer process dies the kernel kills init.
//
// One can be made inside another: see Command.
package enclosure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

const (
	roleEnv  = "NEIGHPIN_E2E_ROLE"
	ownerEnv = "NEIGHPIN_E2E_OWNER"

	roleGuard  = "guard"
	roleInit   = "init"
	roleInside = "inside"

	// exitInterrupted is the exit code of a program that SIGINT ended.
	exitInterrupted = 128 + int(syscall.SIGINT)

	// hurry spares binaries with the race detector a second of sleep at the end of every role. Races are
	// reported all the same. A GORACE of the user's own comes after it and wins.
	hurry = "GORACE=atexit_sleep_ms=0"
)

// Main returns the exit code of the program. prepare runs in the outer process, where the machine's network
// and files are: it builds what is needed and returns further environment variables ("KEY=value") for the
// inside; its context ends on SIGINT and SIGTERM. Main must be called before anything else starts goroutines or
// opens descriptors, and needs root.
func Main(prepare func(context.Context) ([]string, error), inside func() int) int {
	var code int
	var err error
	switch os.Getenv(roleEnv) {
	case roleGuard:
		err = guard(os.Stdin)
	case roleInit:
		code = initMain()
	case roleInside:
		code = inside()
	default:
		code, err = outer(prepare)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "enclosure:", err)
		return max(code, 1)
	}
	return code
}

// Command is this program once more, with those arguments, as one that makes an enclosure of its own inside this one. It has the
// environment of this process, and a network, /run, CNI's cache and processes of its own; the rest of /var/lib is this one's.
func Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, roleEnv+"=") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	return cmd
}

// nested tells that there is another enclosure around this one.
func nested() bool { return strings.Contains(os.Getenv(ownerEnv), "/") }

// CgroupParent is the one cgroup, relative to the root of each hierarchy, below which everything inside must
// keep its cgroups. It is removed at the end.
func CgroupParent() string { return cgroupParent(os.Getenv(ownerEnv)) }

func cgroupParent(owner string) string { return "/neighpin-e2e-" + owner }

// outer is the role of the process that was started.
func outer(prepare func(context.Context) ([]string, error)) (int, error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("make namespaces: this needs root; run it with sudo or as root in a container that has CAP_SYS_ADMIN and CAP_NET_ADMIN")
	}
	// A process dies with the thread that made it (Pdeathsig counts threads), so this one must stay.
	runtime.LockOSThread()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	env, err := prepare(ctx)
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && interrupted {
		return exitInterrupted, errors.New("interrupted while getting ready: what was finished is in the cache, and the next run goes on from there")
	}
	if err != nil {
		return 0, err
	}
	owner := strconv.Itoa(os.Getpid())
	if around := os.Getenv(ownerEnv); around != "" {
		owner = around + "/" + owner // whoever cleans up after the one around this one takes its cgroups, too
	}
	release, err := startGuard(owner)
	if err != nil {
		return 0, err
	}
	code, err := clone(owner, env)
	return code, errors.Join(err, release())
}

// startGuard starts the process that cleans up. It begins when the pipe to it closes: by the function
// returned here, which then waits for it, or by the death of this process.
func startGuard(owner string) (release func() error, err error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append([]string{hurry}, os.Environ()...), roleEnv+"="+roleGuard, ownerEnv+"="+owner)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe to the guard: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	return func() error {
		pipe.Close()
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
		return nil
	}, nil
}

// guard waits for the end of everything and takes away what the kernel does not.
func guard(alive io.Reader) error {
	// Whoever stops the outer process means to stop, not to leave things behind.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	_, _ = io.Copy(io.Discard, alive)
	return removeCgroups(CgroupParent())
}

// clone runs init in new namespaces and passes signals on until it ends.
func clone(owner string, env []string) (int, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(append([]string{hurry}, os.Environ()...), env...)
	cmd.Env = append(cmd.Env, roleEnv+"="+roleInit, ownerEnv+"="+owner)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
		// A terminal's ^C reaches the outer process only, which passes it on once.
		Setpgid: true,
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start in new namespaces: %w", err)
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s)
			case <-done:
				return
			}
		}
	}()
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exitCode(exit.Sys().(syscall.WaitStatus)), nil
	}
	return 0, err
}

// exitCode is what a shell would make of it.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
