// SPDX-License-Identifier: Apache-2.0

package margin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// Verdicts of neighpin's record.
const (
	inTime  = "inTime"
	pending = "pending"
)

// sample is what came of one pod.
type sample struct {
	toPin    time.Duration // from CNI's result to the acknowledged pin
	margin   time.Duration // from there to runsc's look at the neighbors; zero where there was no pin
	recorded time.Duration // the margin in neighpin's record
	verdict  string
}

// start runs so many pods, some at a time, each of which it removes when it has been looked at. It begins no more when the time is
// over that a release is given. The first error ends it.
func start(ctx context.Context, n *node.Node, d *node.Daemon, l load) (samples []sample, err error) {
	work := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // guards the following
	var errs []error
	var workers sync.WaitGroup
	for range min(l.atATime, l.pods) {
		workers.Go(func() {
			for range work {
				s, err := one(ctx, n, d)
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
					cancel()
				} else {
					samples = append(samples, s)
				}
				mu.Unlock()
			}
		})
	}
	give(ctx, work, l.pods)
	workers.Wait()
	return samples, errors.Join(append(errs, context.Cause(ctx))...)
}

// give hands out work until all is done, the time is over, or the context ends.
func give(ctx context.Context, work chan<- struct{}, count int) {
	defer close(work)
	over := time.NewTimer(longest)
	defer over.Stop()
	for range count {
		select {
		case work <- struct{}{}:
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// one runs a pod with a container, looks at what is known of it, and removes it.
func one(ctx context.Context, n *node.Node, d *node.Daemon) (s sample, err error) {
	pod, err := n.RunPod(ctx, node.PodSpec{Handler: "runsc"})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, remove(context.WithoutCancel(ctx), pod)) }()
	if _, err := pod.Run(ctx, node.ContainerSpec{}); err != nil {
		return s, err
	}
	var record node.Sandbox
	err = await.Within(ctx, 30*time.Second, "the verdict on pod "+pod.Name, func() (err error) {
		if record, err = d.Record(pod); err == nil && record.Timing.Verdict == pending {
			err = fmt.Errorf("it is %q", pending)
		}
		return err
	})
	if err != nil {
		return s, err
	}
	return look(pod, record)
}

// remove removes a pod as the kubelet does: containerd gives its shim two seconds to answer, which on a busy machine are too few.
func remove(ctx context.Context, pod *node.Pod) error {
	return await.Within(ctx, time.Minute, "the end of pod "+pod.Name, func() error { return pod.Remove(ctx) })
}

// look makes a pod's sample, after runsc's own word that it has copied what is true.
func look(pod *node.Pod, record node.Sandbox) (s sample, err error) {
	written, err := resultWritten(pod)
	if err != nil {
		return s, err
	}
	read, err := pod.ReadNeighbors()
	if err != nil {
		return s, err
	}
	s = sample{verdict: record.Timing.Verdict, recorded: time.Duration(record.Timing.MarginMs * float64(time.Millisecond))}
	if pinned := record.Timing.PinnedAt; !pinned.IsZero() {
		s.toPin, s.margin = pinned.Sub(written), read.Sub(pinned)
	}
	if s.verdict == inTime {
		err = checkCopied(pod)
	}
	return s, err
}

// resultWritten is when containerd made the file of CNI's result in libcni's cache, which it does when the last plugin of the chain has
// returned (libcni/api.go, AddNetworkList) and before it writes the sandbox's own record.
func resultWritten(pod *node.Pod) (time.Time, error) {
	const cache = "/var/lib/cni/results"
	files, err := filepath.Glob(filepath.Join(cache, "*-"+pod.ID+"-eth0"))
	if err != nil || len(files) != 1 {
		return time.Time{}, fmt.Errorf("find CNI's result of pod %s below %s: there are %q", pod.Name, cache, files)
	}
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, files[0], 0, unix.STATX_BTIME, &stat); err != nil {
		return time.Time{}, fmt.Errorf("look at CNI's result of pod %s: %w", pod.Name, err)
	}
	if stat.Mask&unix.STATX_BTIME == 0 {
		return time.Time{}, fmt.Errorf("look at CNI's result of pod %s: the file system does not keep when a file was made", pod.Name)
	}
	return time.Unix(stat.Btime.Sec, int64(stat.Btime.Nsec)), nil
}

// checkCopied says whether runsc copied exactly both gateways with the address of the host's end.
func checkCopied(pod *node.Pod) error {
	end, err := net.InterfaceByName(pod.HostLink)
	if err != nil {
		return fmt.Errorf("find the host's end of pod %s: %w", pod.Name, err)
	}
	copied, err := pod.Copied()
	if err != nil {
		return err
	}
	for _, gateway := range []netip.Addr{node.Gateway4, node.Gateway6} {
		if copied[gateway] != end.HardwareAddr.String() || len(copied) != 2 {
			return fmt.Errorf("pod %s: runsc copied %v, and the other end has %s", pod.Name, copied, end.HardwareAddr)
		}
	}
	return nil
}
