// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
)

// patience bounds every wait for the daemon.
const patience = time.Minute

// daemon is neighpin in a process of its own.
type daemon struct{ *rig.Daemon }

// startDaemon starts program and returns when the runtime serves it. Records are kept in folder from one to the next.
func startDaemon(ctx context.Context, program, folder string, rt *rig.Runtime, compare time.Duration) (*daemon, error) {
	d, err := rig.StartDaemon(rig.DaemonOptions{Program: program, Folder: folder, NetNS: filepath.Join(folder, "netns"), Socket: rt.Socket,
		Args: []string{"--compare-interval", compare.String()}})
	if err != nil {
		return nil, err
	}
	if err := d.Ready(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	rt.Settle()
	return &daemon{d}, nil
}

// The metrics that are read.
const (
	messagesHeard = "neighpin_host_messages_total"
	comparisons   = `neighpin_looks_total{cause="comparison"}`
	takeovers     = `neighpin_looks_total{cause="takeover"}`
	started       = `neighpin_sandboxes{handler="runsc",phase="started"}`
	starting      = `neighpin_sandboxes{handler="runsc",phase="starting"}`
	notPinned     = "neighpin_gateways_skipped"
	stale         = "neighpin_stale_copies"
)

// rested waits until the daemon has done what there was to do: it knows that many pods, all have started, and it has not looked at any for a
// while.
func (d *daemon) rested(ctx context.Context, pods int) error {
	var last float64
	var since time.Time
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return await.Every(ctx, 100*time.Millisecond, "the daemon to rest", func() error {
		m, err := d.Metrics(ctx)
		if err != nil {
			return err
		}
		if m[started] != float64(pods) || m[starting] != 0 || m.Sum(notPinned) != 0 {
			return fmt.Errorf("%.0f pods have started, %.0f are starting, want %d; %.0f gateways are not pinned", m[started], m[starting], pods, m.Sum(notPinned))
		}
		if now := m.Looks() + m[messagesHeard]; now != last || since.IsZero() {
			last, since = now, time.Now()
		}
		if quiet := time.Since(since); quiet < time.Second {
			return fmt.Errorf("it has looked, or heard something, %s ago", quiet)
		}
		return nil
	})
}
