// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/pkg/record"
)

// handler is the pods' runtime handler.
const handler = "pinned"

// daemon is a running neighpin.
type daemon struct{ *rig.Daemon }

// startDaemon starts neighpin as it is by default, but for what the section is about, in the node's namespace.
func startDaemon(program, folder, socket string, c *cluster) (*daemon, error) {
	d, err := rig.StartDaemon(rig.DaemonOptions{Program: program, Folder: folder, NetNS: c.folder, Socket: socket, Node: c.node,
		Args: []string{"--handlers", handler, "--annotate", handler}})
	if err != nil {
		return nil, err
	}
	return &daemon{d}, nil
}

// rest waits until the daemon has had next to no processor for a moment.
func (d *daemon) rest(ctx context.Context) error { return d.Rest(ctx, 300*time.Millisecond, 100) }

// settled waits until the daemon says of that many pods what it should.
func (d *daemon) settled(ctx context.Context, pods []*pod) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return d.Explain(await.Every(ctx, time.Second, "neighpin to know all pods", func() error {
		if err := d.rest(ctx); err != nil {
			return err
		}
		return d.check(ctx, pods)
	}))
}

// looked waits until the daemon is at rest, looks at it, and makes sure that it knows all pods as it should; if it does not, that was a
// rest while others held the kernel's locks, and what was seen does not count. What it is asked comes after the look: it takes memory.
func (d *daemon) looked(ctx context.Context, pods []*pod, look func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return d.Explain(await.Every(ctx, time.Second, "neighpin to know all pods", func() error {
		if err := d.Rest(ctx, 2*time.Second, 400); err != nil { // it gives back memory half a second after the last thing it did
			return err
		}
		if err := look(ctx); err != nil {
			return err
		}
		return d.check(ctx, pods)
	}))
}

// check says what is wrong with what the daemon says of that many pods.
func (d *daemon) check(ctx context.Context, pods []*pod) error {
	known, err := d.Sandboxes(ctx)
	if err != nil {
		return err
	}
	if len(known) != len(pods) {
		return fmt.Errorf("count the sandboxes that neighpin knows: %d, want %d", len(known), len(pods))
	}
	byPath := make(map[string]record.Record)
	for _, rec := range known {
		byPath[rec.NetNS.Path] = rec
	}
	for _, p := range pods {
		rec := byPath[p.path]
		if rec.Phase != record.Started || rec.Timing.Verdict != record.Unproven || len(rec.Neighbors) != 2 || rec.Error != "" {
			return fmt.Errorf("look at what neighpin says of pod %d: %+v", p.number, rec)
		}
		for _, n := range rec.Neighbors {
			if string(n.LLAddr) != p.lladdr.String() {
				return fmt.Errorf("look at what neighpin has pinned in pod %d: %+v, want %s", p.number, n, p.lladdr)
			}
		}
	}
	return nil
}

// idle is the share of a processor, in percent, that the daemon has over a time in which nothing happens.
func (d *daemon) idle(ctx context.Context, period time.Duration) (float64, error) {
	before, err := d.Processor()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	select {
	case <-time.After(period):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := d.Processor()
	return 100 * (after - before).Seconds() / time.Since(began).Seconds(), err
}

// size is what the daemon holds.
type size struct {
	resident, peak int64 // bytes (VmRSS and VmHWM of /proc/PID/status)
	heap           int64 // bytes in use after a collection
	descriptors    int
}

// measure finds the daemon's size. The heap comes last: asking for it collects garbage, from which the resident size would gain.
func (d *daemon) measure(ctx context.Context) (s size, err error) {
	proc := fmt.Sprintf("/proc/%d/", d.PID())
	data, err := os.ReadFile(proc + "status")
	if err != nil {
		return s, fmt.Errorf("read the daemon's size: %w", err)
	}
	descriptors, err := os.ReadDir(proc + "fd")
	if err != nil {
		return s, fmt.Errorf("count the daemon's descriptors: %w", err)
	}
	s.descriptors = len(descriptors)
	profile, err := d.Get(ctx, "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return s, err
	}
	for _, figure := range []struct {
		to     *int64
		form   string
		factor int64
		in     []byte
	}{{&s.resident, "VmRSS: %d kB", 1 << 10, data}, {&s.peak, "VmHWM: %d kB", 1 << 10, data}, {&s.heap, "# HeapInuse = %d", 1, profile}} {
		for line := range bytes.Lines(figure.in) {
			_, _ = fmt.Sscanf(string(line), figure.form, figure.to) // other lines do not match
		}
		if *figure.to *= figure.factor; *figure.to == 0 {
			return s, fmt.Errorf("find the daemon's size: nothing says %q", figure.form)
		}
	}
	return s, nil
}
