// SPDX-License-Identifier: Apache-2.0

package podstart

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Child is the argument by which the program that measures is started as one whose system calls are counted: see RunChild.
const Child = "count-calls"

// Marks around each round, which strace shows among the other calls.
const (
	markBegin = "/neighpin-bench-begins"
	markEnd   = "/neighpin-bench-ends"
)

// RunChild pins pods, whose paths follow the name of a contender, one after the other.
func RunChild(ctx context.Context, args []string) (err error) {
	if len(args) < 1 {
		return errors.New("count calls: neither contender nor paths are given")
	}
	floor, err := newFloor()
	if err != nil {
		return err
	}
	defer floor.Close()
	product, err := newProduct()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, product.Close()) }()
	pin, ok := map[string]func(context.Context, string) error{floorName: floor.pin, productName: product.pin}[args[0]]
	if !ok {
		return fmt.Errorf("find contender %q: only those that run in this process can be counted", args[0])
	}
	for _, path := range args[1:] {
		_ = unix.Access(markBegin, 0)
		if err := pin(ctx, path); err != nil {
			return err
		}
		_ = unix.Access(markEnd, 0)
	}
	return nil
}

// calls are the system calls of a round, by name.
type calls map[string]int

func (c calls) sum() (n int) {
	for _, count := range c {
		n += count
	}
	return n
}

// String lists them, the most frequent first.
func (c calls) String() string {
	list := slices.Collect(maps.Keys(c))
	slices.SortFunc(list, func(a, b string) int {
		if c[a] != c[b] {
			return c[b] - c[a]
		}
		return strings.Compare(a, b)
	})
	for i, name := range list {
		list[i] = fmt.Sprintf("%s %d", name, c[name])
	}
	return strings.Join(list, ", ")
}

// schedulers are calls by which Go's runtime manages its threads and memory. How many there are is chance, and strace's slowness
// brings more of them.
var schedulers = []string{"clone", "clone3", "epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2", "exit", "futex", "getpid", "gettid",
	"madvise", "mmap", "mprotect", "munmap", "nanosleep", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity",
	"sched_yield", "set_robust_list", "sigaltstack", "tgkill", "timer_create", "timer_delete", "timer_settime", "prctl"}

// countCalls runs this program once more, below strace, and returns the calls of the round that had the median number of them.
func countCalls(ctx context.Context, bed *Bed, contender string, rounds int) (median calls, err error) {
	pods, err := makePods(bed, rounds)
	defer func() {
		if removeErr := removePods(pods); err == nil {
			err = removeErr
		}
	}()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the own program: %w", err)
	}
	dir, err := os.MkdirTemp("", "neighpin-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	trace := filepath.Join(dir, "trace")
	args := []string{"-f", "-qq", "-s", "64", "-e", "signal=none", "-o", trace, self, Child, contender}
	for _, p := range pods {
		args = append(args, p.Path)
	}
	if out, err := exec.CommandContext(ctx, "strace", args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("trace %s: %w\n%s", contender, err, out)
	}
	for _, p := range pods {
		if err := p.Check(); err != nil {
			return nil, fmt.Errorf("check what %s has pinned: %w", contender, err)
		}
	}
	data, err := os.ReadFile(trace)
	if err != nil {
		return nil, fmt.Errorf("read the trace: %w", err)
	}
	list := parseTrace(data)
	if len(list) != rounds {
		return nil, fmt.Errorf("parse the trace of %s: %d rounds, not %d", contender, len(list), rounds)
	}
	slices.SortFunc(list, func(a, b calls) int { return a.sum() - b.sum() })
	return list[(len(list)-1)/2], nil
}

// callLine is a line of strace: a thread's number, and a call that begins, whole or "unfinished". The rest of an unfinished one
// ("<... read resumed>") begins nothing.
var callLine = regexp.MustCompile(`^\d+ +([a-z0-9_]+)\((.*)`)

// parseTrace counts the calls between each pair of marks, but those of Go's scheduler.
func parseTrace(trace []byte) (rounds []calls) {
	var now calls
	lines := bufio.NewScanner(bytes.NewReader(trace))
	for lines.Scan() {
		m := callLine.FindStringSubmatch(lines.Text())
		switch {
		case m == nil:
		case strings.Contains(m[2], markBegin):
			now = calls{}
		case strings.Contains(m[2], markEnd):
			rounds = append(rounds, now)
			now = nil
		case now != nil && !slices.Contains(schedulers, m[1]):
			now[m[1]]++
		}
	}
	return rounds
}
