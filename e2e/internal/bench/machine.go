// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine says what a run ran on.
type Machine struct {
	Kernel string  `json:"kernel"`
	CPU    string  `json:"cpu"` // the model's name
	Cores  int     `json:"cores"`
	Memory uint64  `json:"memory_bytes"`
	Load   float64 `json:"load"` // the average over a minute, when the run began
	Go     string  `json:"go"`
	Commit string  `json:"commit"` // with -dirty where files differ from it
}

// DescribeMachine reads what there is to say. A commit that git does not tell is "unknown".
func DescribeMachine(ctx context.Context, repository string) (Machine, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Machine{}, fmt.Errorf("read the kernel's version: %w", err)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return Machine{}, fmt.Errorf("read the machine's memory: %w", err)
	}
	load, err := Load()
	if err != nil {
		return Machine{}, err
	}
	memory := uint64(info.Totalram) * uint64(info.Unit) //nolint:unconvert // its type differs between architectures
	m := Machine{Kernel: unix.ByteSliceToString(name.Release[:]), CPU: "unknown", Cores: runtime.NumCPU(),
		Memory: memory, Load: load, Go: runtime.Version(), Commit: "unknown"}
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if out, err := exec.CommandContext(ctx, "git", "-C", repository, "describe", "--always", "--dirty", "--abbrev=12", "--match", "").Output(); err == nil {
		m.Commit = strings.TrimSpace(string(out))
	}
	return m, nil
}

// Load is the machine's load average over a minute.
func Load() (float64, error) {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, fmt.Errorf("read the load: %w", err)
	}
	first, _, _ := strings.Cut(string(data), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0, fmt.Errorf("parse the load: %w", err)
	}
	return load, nil
}

// String is one sentence.
func (m Machine) String() string {
	return fmt.Sprintf("Linux %s, %d × %s, %.1f GiB, %s, commit %s, load %.1f at the start",
		m.Kernel, m.Cores, m.CPU, float64(m.Memory)/(1<<30), m.Go, m.Commit, m.Load)
}
