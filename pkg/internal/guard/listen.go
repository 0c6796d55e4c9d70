// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// HostWatcher is the part of [neighbor.HostWatcher] that the guard needs.
type HostWatcher interface {
	Receive() ([]neighbor.HostEvent, error)
	Heard() uint64
	HearEntries(of []netip.Addr) error
	Close() error
}

const (
	// listenAgain is the pause before the host is listened to again after that
	// failed; it doubles up to listenAtLast.
	listenAgain  = 100 * time.Millisecond
	listenAtLast = time.Minute
	// readAtOnce is the number of events that are read without a pause, and
	// readPause the pause after that many in a second: a sandbox that makes events
	// without end costs so much reading and no more. What is lost by it is told by
	// an Overrun, after which everything is read again.
	readAtOnce = 50000
	readPause  = 20 * time.Millisecond
	// idlePause follows what is read to no purpose, after the first idleFree times in
	// a second: a node where a lot happens that concerns nobody costs some tens of
	// wake-ups a second and not thousands, and what does concern somebody waits no
	// longer than that. Nothing waits on a node that is quiet, or where one thing that
	// matters follows another.
	idleFree  = 10
	idlePause = 50 * time.Millisecond
)

// listen hears the host until the end, and says when it cannot and when it can
// again. After each gap everything is compared.
func (g *Guard) listen() {
	pause := listenAgain
	for g.ctx.Err() == nil {
		err := g.hear(func() { pause = listenAgain })
		if g.ctx.Err() != nil {
			return
		}
		g.listens(err)
		if errors.Is(err, fs.ErrPermission) {
			pause = listenAtLast // somebody has to change that
		}
		select {
		case <-g.ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, listenAtLast)
	}
}

// hear is one watcher, from its beginning to its failure.
func (g *Guard) hear(began func()) error {
	w, err := g.opts.WatchHost()
	if err != nil {
		return fmt.Errorf("listen to the host: %w", err)
	}
	// Closed to wake Receive at the end of the engine, too.
	stop := context.AfterFunc(g.ctx, func() { _ = w.Close() })
	defer func() {
		stop()
		_ = w.Close()
		g.mu.Lock()
		g.watcher = nil
		g.mu.Unlock()
	}()
	g.mu.Lock()
	g.watcher = w
	err = g.choose()
	g.mu.Unlock()
	if err != nil {
		return err
	}
	began()
	g.listens(nil)
	g.mu.Lock()
	g.sweep()
	g.mu.Unlock()
	second, read, idle := time.Now(), 0, 0
	for known := uint64(0); ; {
		events, err := w.Receive()
		heard := w.Heard()
		g.messages.Add(heard - known)
		known = heard
		if err != nil {
			return fmt.Errorf("listen to the host: %w", err)
		}
		concerns := g.Heard(events)
		if time.Since(second) >= time.Second {
			second, read, idle = time.Now(), 0, 0
		}
		read += len(events)
		if !concerns && len(events) < neighbor.ReceiveAtOnce {
			idle++
		}
		over := read >= readAtOnce
		if !over && (concerns || idle <= idleFree || len(events) >= neighbor.ReceiveAtOnce) {
			continue
		}
		pause := idlePause
		if over {
			pause = readPause
		}
		select {
		case <-g.ctx.Done():
		case <-time.After(pause):
		}
	}
}

// mind has the entries of a sandbox's gateways heard, and reports whether those of
// one were not before: what happened to them was not told, and another look is due.
// What other pods' neighbors do, which is most of what the kernel tells, does not
// even wake this process.
//
// Gateways stay minded for good. A node has few that differ, since all its pods
// have the same.
func (g *Guard) mind(w *Ward) (more bool) {
	if len(g.minded) > neighbor.MaxEntries {
		return false // all are heard
	}
	for gateway := range w.subject.Gateways() {
		more = more || !g.minded[gateway]
		g.minded[gateway] = true
	}
	if more && g.watcher != nil && g.choose() != nil {
		// Another one takes its place, and everything is compared.
		_ = g.watcher.Close()
	}
	return more
}

// choose tells the watcher whose entries matter.
func (g *Guard) choose() error {
	if err := g.watcher.HearEntries(slices.Collect(maps.Keys(g.minded))); err != nil {
		return fmt.Errorf("listen to the host: %w", err)
	}
	return nil
}

// listens notes whether the host can be listened to, and tells when that changes.
func (g *Guard) listens(err error) {
	g.mu.Lock()
	changed := !g.tried || (err == nil) != (g.deaf == nil)
	g.tried, g.deaf = true, err
	g.mu.Unlock()
	if changed {
		g.opts.Listens(err)
	}
}
