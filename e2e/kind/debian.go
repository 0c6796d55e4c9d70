// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// suite is the node's Debian release: the last whose systemd runs on cgroup v1 without being asked to.
	suite  = "bookworm"
	mirror = "http://deb.debian.org/debian"

	// searchPath finds the distribution's Docker, not another one that somebody has put before it.
	searchPath = "/usr/sbin:/usr/bin:/sbin:/bin"
)

// nodePackages are what the node has besides Debian's minimum; kind's Dockerfile names them with their reasons.
var nodePackages = [...]string{
	"systemd", "systemd-sysv", "runc", "conntrack", "iptables", "nftables", "iproute2", "ethtool", "util-linux", "mount",
	"kmod", "libseccomp2", "bash", "ca-certificates", "jq", "procps", "e2fsprogs",
}

// lookPath finds a program of the distribution.
func lookPath(program string) (string, error) {
	for dir := range strings.SplitSeq(searchPath, ":") {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("find %s in %s: %w", program, searchPath, exec.ErrNotFound)
}

// debian makes the archive of the node's root folder, unless the cache has it.
func debian(ctx context.Context, cache string, progress io.Writer) (string, error) {
	packages := strings.Join(nodePackages[:], ",")
	archive := filepath.Join(cache, "debian-"+suite+"-"+digest(packages, mirror)+".tar")
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	start := time.Now()
	fmt.Fprintf(progress, "debian %s: fetching %d packages and what they need from %s\n", suite, len(nodePackages), mirror)
	root, err := os.MkdirTemp(cache, "debian-*.building")
	if err != nil {
		return "", fmt.Errorf("make a folder for Debian: %w", err)
	}
	defer os.RemoveAll(root)
	// The mirror is not to be believed: without Debian's keys debootstrap would only warn (debian-archive-keyring has them).
	// In namespaces of its own: what is mounted below the folder and started there ends with the command.
	args := []string{
		"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
		"debootstrap", "--force-check-gpg", "--variant=minbase", "--include=" + packages, suite, root, mirror,
	}
	if err := runLogged(command(ctx, "unshare", args...)); err != nil {
		return "", err
	}
	if err := os.RemoveAll(filepath.Join(root, "var/cache/apt")); err != nil {
		return "", fmt.Errorf("remove the package cache: %w", err)
	}
	if err := runLogged(command(ctx, "tar", "--create", "--numeric-owner", "--one-file-system", "--directory", root, "--file", archive+".building", ".")); err != nil {
		return "", err
	}
	if err := os.Rename(archive+".building", archive); err != nil {
		return "", fmt.Errorf("put Debian into the cache: %w", err)
	}
	fmt.Fprintf(progress, "debian %s: done, %s\n", suite, time.Since(start).Round(time.Second))
	return archive, nil
}

// command prepares a program of the distribution. When ctx ends it is killed with the processes it started.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	path, err := lookPath(name)
	if err != nil {
		path = name
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PATH="+searchPath)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// runLogged runs a command and quotes the end of its output in the error.
func runLogged(cmd *exec.Cmd) error {
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(output.String()))
	}
	return nil
}

// quoted is how much of a command's output an error shows, in bytes.
const quoted = 4000

// tail is the end of a text, from the beginning of a line.
func tail(text string) string {
	text = strings.TrimSpace(text)
	if len(text) <= quoted {
		return text
	}
	text = text[len(text)-quoted:]
	_, after, _ := strings.Cut(text, "\n")
	return "…\n" + after
}
