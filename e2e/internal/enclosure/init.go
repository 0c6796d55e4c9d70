// SPDX-License-Identifier: Apache-2.0

package enclosure

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// initMain is process 1 of the PID namespace. Orphans become its children: shims and sandboxes outlive whoever
// started them, and a runtime that waits for a process to be gone waits forever on a zombie.
func initMain() int {
	if err := furnish(); err != nil {
		fmt.Fprintln(os.Stderr, "enclosure: furnish the namespaces:", err)
		return 1
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	if err := os.Setenv(roleEnv, roleInside); err != nil {
		fmt.Fprintln(os.Stderr, "enclosure: choose the role:", err)
		return 1
	}
	// Not os/exec: its Wait and the collection of orphans below would take each other's children.
	pid, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "enclosure: start the program:", err)
		return 1
	}
	// Ends with the process.
	go func() {
		for s := range signals {
			_ = syscall.Kill(pid, s.(syscall.Signal))
		}
	}()
	return collect(pid)
}

// collect waits for every child until the one that matters has ended, then kills the rest.
func collect(main int) int {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "enclosure: wait for children:", err)
			return 1
		}
		if pid == main && (status.Exited() || status.Signaled()) {
			// The exit of process 1 kills the others, but returns before they are gone.
			_ = syscall.Kill(-1, syscall.SIGKILL)
			for {
				if _, err := syscall.Wait4(-1, nil, 0, nil); errors.Is(err, syscall.ECHILD) {
					return exitCode(status)
				}
			}
		}
	}
}

// furnish mounts what belongs to the new namespaces and readies their network.
func furnish() error {
	if err := unix.Sethostname([]byte("neighpin-e2e")); err != nil {
		return fmt.Errorf("name the host: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	if err := shareRun(); err != nil {
		return err
	}
	if err := mountSys(); err != nil {
		return err
	}
	if err := coverVarLib(); err != nil {
		return err
	}
	return network()
}

// shareRun makes /var/run the same folder as /run where the distribution does not.
func shareRun() error {
	target, err := filepath.EvalSymlinks("/var/run")
	if err != nil {
		return fmt.Errorf("look at /var/run: %w", err)
	}
	if target == "/run" {
		return nil
	}
	if err := unix.Mount("/run", "/var/run", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /run on /var/run: %w", err)
	}
	return nil
}

// mountSys mounts a /sys that shows the network devices of this namespace, and keeps the cgroups in it.
func mountSys() error {
	const cgroups, aside = "/sys/fs/cgroup", "/run/cgroup"
	if err := os.Mkdir(aside, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(cgroups, aside, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("set the cgroups aside: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if err := unix.Mount(aside, cgroups, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("put the cgroups back: %w", err)
	}
	return os.Remove(aside)
}

// coverVarLib catches what is written to /var/lib: libcni keeps its cache there and cannot be told otherwise.
func coverVarLib() error {
	if nested() { // /var/lib is covered, and covers cannot be stacked without end
		const cache = "/var/lib/cni"
		if err := os.MkdirAll(cache, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", cache, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
			return fmt.Errorf("mount %s: %w", cache, err)
		}
		return nil
	}
	const upper, work = "/run/varlib/upper", "/run/varlib/work"
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("overlay", "/var/lib", "overlay", 0, "lowerdir=/var/lib,upperdir="+upper+",workdir="+work); err != nil {
		return fmt.Errorf("cover /var/lib: %w", err)
	}
	return nil
}

// network brings lo up and, for the links that will be made here, switches duplicate address detection off:
// a gateway address that is still tentative answers nobody.
func network() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	for _, name := range []string{"accept_dad", "dad_transmits"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/"+name, []byte("0"), 0o644); err != nil {
			return fmt.Errorf("switch duplicate address detection off: %w", err)
		}
	}
	return nil
}
