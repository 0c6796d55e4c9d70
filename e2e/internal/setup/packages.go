// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// debian is a program, by its name in PATH or by its path, and the package that it comes in.
type debian struct{ program, name string }

// packages are what a node takes from the distribution.
var packages = [...]debian{
	{"runc", "runc"},         // needs cgo and libseccomp: not built here
	{"podman", "podman"},     // an engine without NRI
	{"ip", "iproute2"},       // for people who look at a failure
	{"iptables", "iptables"}, // for CNI's portmap
}

// Distribution installs the packages of every node whose programs are missing, with apt-get.
func Distribution(ctx context.Context, progress io.Writer) error {
	return install(ctx, progress, packages[:])
}

// BrowserProgram is what Browser installs: Chromium without a window.
const BrowserProgram = "chromium-headless-shell"

// browser is for tests of what people look at: some 100 MiB that no other test needs.
var browser = [...]debian{{BrowserProgram, "chromium-headless-shell"}, {"fc-list", "fontconfig"}}

// Browser installs a browser, if it is missing.
func Browser(ctx context.Context, progress io.Writer) error {
	return install(ctx, progress, browser[:])
}

// benches is what the benchmarks measure against, and count with.
var benches = [...]debian{
	{"ip", "iproute2"},
	{"arping", "iputils-arping"},
	{"ping", "iputils-ping"},
	{"nsenter", "util-linux"},
	{"strace", "strace"},
}

// Bench installs what the benchmarks need, if it is missing.
func Bench(ctx context.Context, progress io.Writer) error {
	return install(ctx, progress, benches[:])
}

// emulators run programs of the architectures that the machine is not of.
var emulators = [...]debian{{"qemu-aarch64", "qemu-user"}, {"qemu-x86_64", "qemu-user"}}

// Emulators installs qemu's user mode, if it is missing: qemu-aarch64 and qemu-x86_64 run one program each.
func Emulators(ctx context.Context, progress io.Writer) error {
	return install(ctx, progress, emulators[:])
}

// docker is what runs and fills the node of a kind cluster. By their paths: another Docker that somebody has put before the
// distribution's does not serve.
var docker = [...]debian{
	{"/usr/sbin/dockerd", "docker.io"},
	{"/usr/bin/docker", "docker.io"},
	{"/usr/sbin/debootstrap", "debootstrap"},
	{"/usr/bin/unshare", "util-linux"},
}

// Docker installs the distribution's Docker and debootstrap, if they are missing.
func Docker(ctx context.Context, progress io.Writer) error {
	return install(ctx, progress, docker[:])
}

// install installs the packages whose programs are missing.
func install(ctx context.Context, progress io.Writer, packages []debian) error {
	var missing []string
	for _, p := range packages {
		if _, err := exec.LookPath(p.program); err != nil && !slices.Contains(missing, p.name) {
			missing = append(missing, p.name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return aptInstall(ctx, progress, missing)
}

// aptInstall installs packages. It starts no service: what the tests run, they start themselves.
func aptInstall(ctx context.Context, progress io.Writer, missing []string) error {
	restore, err := forbidServices()
	if err != nil {
		return fmt.Errorf("install %s: %w", strings.Join(missing, ", "), err)
	}
	defer restore()
	for _, args := range [][]string{{"update", "-q"}, append([]string{"install", "-q", "-y", "--no-install-recommends"}, missing...)} {
		fmt.Fprintf(progress, "apt-get %s\n", strings.Join(args, " "))
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = progress, progress
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("install %s (install them yourself where apt-get is missing): %w", strings.Join(missing, ", "), err)
		}
	}
	return nil
}

// policy is the file by which Debian's packages are told whether they may start services.
const policy = "/usr/sbin/policy-rc.d"

// forbidServices keeps packages from starting services while they are installed. A policy that is there already stays as it is.
func forbidServices() (restore func(), err error) {
	file, err := os.OpenFile(policy, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("forbid services to start: %w", err)
	}
	_, err = file.WriteString("#!/bin/sh\nexit 101\n")
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("forbid services to start: %w", err), os.Remove(policy))
	}
	return func() { _ = os.Remove(policy) }, nil
}
