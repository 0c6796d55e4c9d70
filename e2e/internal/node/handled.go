// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Handled is what a daemon's metrics say of an event of NRI.
type Handled struct {
	Count int
	// Sum is the time in the handler, without the way to it and back.
	Sum time.Duration
}

// Handled asks the daemon, which serves metrics at that address, what it has handled without an error, by the names of events.
func (d *Daemon) Handled(ctx context.Context, address string) (map[string]Handled, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("read the daemon's metrics: %w", err)
	}
	defer response.Body.Close()
	all := make(map[string]Handled)
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		event, figure, value, ok := handledLine(lines.Text())
		if !ok {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("parse the daemon's metrics: %w", err)
		}
		of := all[event]
		switch figure {
		case "count":
			of.Count = int(number)
		case "sum":
			of.Sum = time.Duration(number * float64(time.Second))
		}
		all[event] = of
	}
	return all, lines.Err()
}

// handledLine takes a line such as name_count{hook="RunPodSandbox",result="ok"} 7 apart.
func handledLine(line string) (event, figure, value string, ok bool) {
	rest, ok := strings.CutPrefix(line, "neighpin_nri_hook_duration_seconds_")
	if !ok || !strings.Contains(rest, `result="ok"`) {
		return "", "", "", false
	}
	figure, labels, _ := strings.Cut(rest, "{")
	_, event, _ = strings.Cut(labels, `hook="`)
	event, _, _ = strings.Cut(event, `"`)
	_, value, ok = strings.Cut(labels, "} ")
	return event, figure, value, ok
}

// Ran is how long a process has run, all its threads together, also those that have ended (clock_getcpuclockid(3), the kernel's
// include/linux/posix-timers.h: CPUCLOCK_SCHED).
func Ran(pid int) (time.Duration, error) {
	const scheduled = 2
	var ran unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &ran); err != nil {
		return 0, fmt.Errorf("read the time of process %d: %w", pid, err)
	}
	return time.Duration(ran.Nano()), nil
}

// ContainerdPID is containerd's, while it runs.
func (n *Node) ContainerdPID() int { return n.containerd.cmd.Process.Pid }
