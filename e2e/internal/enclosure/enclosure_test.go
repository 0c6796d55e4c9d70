// SPDX-License-Identifier: Apache-2.0

package enclosure

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

const inmateEnv = "NEIGHPIN_E2E_INMATE"

// TestMain lets the tests run this binary once more as a program that lives in an enclosure.
func TestMain(m *testing.M) {
	if os.Getenv(inmateEnv) != "" {
		os.Exit(Main(func(context.Context) ([]string, error) { return []string{"FROM_OUTSIDE=yes"}, nil }, inmate))
	}
	goleak.VerifyTestMain(m)
}

// inmate says what it sees, as "key=value" lines, and does what the test asked for.
func inmate() int {
	links, _ := filepath.Glob("/sys/class/net/*")
	run, _ := os.ReadDir("/run")
	var runs []string
	for _, entry := range run {
		runs = append(runs, entry.Name())
	}
	cgroup := filepath.Join(anyHierarchy(), CgroupParent())
	if err := os.MkdirAll(filepath.Join(cgroup, "pod", "container"), 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// An orphan for process 1, that would outlive everybody.
	orphan := exec.Command("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
	pid, err := orphan.Output()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	hostname, _ := os.Hostname()
	fmt.Printf("links=%v\nrun=%v\ncgroup=%s\nparent=%d\nhostname=%s\nenv=%s\norphan=%s\n.\n", links, runs, cgroup, os.Getppid(), hostname,
		os.Getenv("FROM_OUTSIDE"), strings.TrimSpace(string(pid)))
	if os.Getenv(inmateEnv) == "exit" {
		return 7
	}
	select {}
}

// anyHierarchy is a folder where cgroups can be made, of version 2 or 1.
func anyHierarchy() string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil {
		return "/sys/fs/cgroup"
	}
	return "/sys/fs/cgroup/cpu"
}

// prisoner is a running inmate, seen from outside.
type prisoner struct {
	cmd *exec.Cmd
	saw map[string]string
}

func imprison(t *testing.T, how string) prisoner {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), inmateEnv+"="+how)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	p := prisoner{cmd: cmd, saw: map[string]string{}}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "." {
		key, value, _ := strings.Cut(lines.Text(), "=")
		p.saw[key] = value
	}
	if p.saw["cgroup"] == "" {
		t.Fatalf("the inmate said nothing: %v", lines.Err())
	}
	return p
}

// gone waits until the cgroup and every process that mentions the inmate's environment is gone.
func (p prisoner) gone(t *testing.T) {
	t.Helper()
	err := await.Within(t.Context(), time.Minute, "the end of everything", func() error {
		if _, err := os.Stat(p.saw["cgroup"]); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look for %s, which should be gone: %w", p.saw["cgroup"], errors.Join(err, fs.ErrExist))
		}
		environments, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			return err
		}
		for _, path := range environments {
			data, err := os.ReadFile(path)
			if err == nil && strings.Contains(string(data), fmt.Sprintf("%s=%d\x00", ownerEnv, p.cmd.Process.Pid)) {
				return fmt.Errorf("process %s is left", filepath.Base(filepath.Dir(path)))
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestInsideEverythingIsItsOwn(t *testing.T) {
	p := imprison(t, "exit")
	err := p.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 7 {
		t.Errorf("ended with %v, want the inmate's exit code 7", err)
	}
	for key, want := range map[string]string{
		"links": "[/sys/class/net/lo]", "run": "[varlib]", "parent": "1", "hostname": "neighpin-e2e", "env": "yes",
	} {
		if p.saw[key] != want {
			t.Errorf("%s is %q, want %q", key, p.saw[key], want)
		}
	}
	p.gone(t)
}

func TestItAllGoesHoweverItEnds(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL} {
		t.Run(s.String(), func(t *testing.T) {
			p := imprison(t, "stay")
			if err := p.cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			if err := p.cmd.Wait(); err == nil {
				t.Error("it ended with exit code 0")
			}
			p.gone(t)
		})
	}
}
