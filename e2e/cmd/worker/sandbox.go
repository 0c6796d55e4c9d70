// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	runsc  = "/opt/runsc"
	root   = "/run/runsc"
	logs   = "/logs"
	bundle = "/run/bundle"
	name   = "sandbox"
)

// runSandbox runs the program in gVisor, in the interior namespace, until it or the context ends.
func runSandbox(ctx context.Context, o options) error {
	if err := writeBundle(o.program); err != nil {
		return err
	}
	// Without cgroups: the container's are whatever its node has.
	args := []string{"--root", root, "--platform", "systrap", "--network", "sandbox", "--ignore-cgroups", "--debug", "--debug-log", logs + "/%COMMAND%.log"}
	if o.restore == "" {
		args = append(args, "run", "--bundle", bundle, name)
	} else {
		args = append(args, "restore", "--image-path", o.restore, "--bundle", bundle, name)
	}
	cmd := exec.CommandContext(ctx, runsc, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %v: %w", cmd.Args, err)
	}
	return nil
}

// writeBundle makes an OCI bundle with a program of this image in it, a static one.
func writeBundle(program []string) error {
	for _, dir := range []string{"/tmp", root, filepath.Join(bundle, "rootfs")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := copyProgram(program[0], filepath.Join(bundle, "rootfs", "program")); err != nil {
		return err
	}
	// All of it is the same in the pod that goes on from the checkpoint: gVisor insists on that.
	config := map[string]any{
		"ociVersion": "1.0.2",
		"process": map[string]any{
			"cwd": "/", "user": map[string]any{"uid": 0, "gid": 0},
			"args": append([]string{"/program"}, program[1:]...),
		},
		"root":   map[string]any{"path": "rootfs", "readonly": true},
		"mounts": []map[string]any{{"destination": "/proc", "type": "proc", "source": "proc"}},
		"linux": map[string]any{"namespaces": []map[string]any{
			{"type": "network", "path": interior}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
		}},
	}
	data, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o644)
}

func copyProgram(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		_ = target.Close()
		return err
	}
	return target.Close()
}
