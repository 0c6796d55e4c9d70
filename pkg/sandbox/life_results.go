// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/neighpin/neighpin/pkg/netns"
)

// resultFor is how long a result is kept that no sandbox has asked for: of one that is
// not selected, or whose owner is found late.
const resultFor = time.Minute

// resultName matches the name of a result that libcni keeps: the network's, the sandbox's id, the link's
// (libcni/api.go, getCacheFilePath). The ids are of the CRI plugin's making.
var resultName = regexp.MustCompile(`-([0-9a-f]{64})-([^/]+)$`)

// results tells which sandboxes' networks are made, by the files that libcni keeps. It makes a network's file when the
// last plugin of its chain has returned, and before containerd writes the sandbox's record (libcni/api.go, AddNetworkList). The kernel
// tells of a file at once; the record has to be asked for, and where many sandboxes start at once both
// its writing and the answer wait for containerd's share of the processor, which the questions make smaller.
type results struct {
	watcher *netns.Watcher // nil: none are heard of

	// leads tells that the last network was known by its file before it was by a record,
	// so that the records need not be asked for often.
	leads atomic.Bool

	mu    sync.Mutex // guards the following
	made  map[string]made
	waits map[string]chan string // sandbox id to who wants to know the file
	swept time.Time
}

// made is a network that nobody has asked for yet.
type made struct {
	file string
	at   time.Time
}

func newResults() *results {
	return &results{made: make(map[string]made), waits: make(map[string]chan string)}
}

// watchResults begins to hear of results. Where that is not possible the store is asked
// alone, as for a directory in which nothing ever appears.
func (e *Engine) watchResults() {
	if e.opts.Results == "" || e.opts.OneNetwork == nil || e.opts.Store == nil {
		return
	}
	watcher, err := netns.NewWatcher([]string{e.opts.Results})
	if err != nil {
		return
	}
	if err := watcher.Start(e.ctx); err != nil {
		watcher.Close()
		return
	}
	e.results.watcher = watcher
	e.wg.Go(func() { _, _ = e.oneNetwork(e.ctx) }) // so that the first sandbox need not wait for it
	e.wg.Go(func() {
		for event := range watcher.Events() {
			e.results.take(event)
		}
	})
}

func (r *results) close() {
	if r.watcher != nil {
		r.watcher.Close()
	}
}

// take notes a file that came or went.
func (r *results) take(event netns.Event) {
	match := resultName.FindStringSubmatch(filepath.Base(event.Path))
	if match == nil || match[2] == "lo" {
		return
	}
	id := match[1]
	r.mu.Lock()
	defer r.mu.Unlock()
	if event.Op != netns.Added {
		delete(r.made, id)
		return
	}
	if wait, ok := r.waits[id]; ok {
		delete(r.waits, id)
		wait <- event.Path
		return
	}
	r.made[id] = made{event.Path, r.sweep()}
}

// sweep drops what nobody has asked for, now and then: at the start there is a file
// for each pod of the node. It returns the time.
func (r *results) sweep() time.Time {
	now := time.Now()
	if now.Sub(r.swept) > resultFor {
		r.swept = now
		maps.DeleteFunc(r.made, func(_ string, m made) bool { return now.Sub(m.at) > resultFor })
	}
	return now
}

// of returns a channel that gives the file of a sandbox's network, once, and a function for who
// does not want to know it any more.
func (r *results) of(id string) (file <-chan string, forget func()) {
	c := make(chan string, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, ok := r.made[id]; ok {
		delete(r.made, id)
		c <- m.file
		return c, func() {}
	}
	r.waits[id] = c
	return c, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.waits[id] == c {
			delete(r.waits, id)
		}
	}
}

// madeNetwork returns a channel that tells when a sandbox's only network is made: no sooner than the
// moment that it gives. It never does where a sandbox may have several, or that is not known.
func (e *Engine) madeNetwork(ctx context.Context, id string) <-chan time.Time {
	if e.results.watcher == nil {
		return nil
	}
	c := make(chan time.Time, 1)
	e.wg.Go(func() {
		file, forget := e.results.of(id)
		defer forget()
		if one, err := e.oneNetwork(ctx); err != nil || !one { // asked while CNI is at work
			return
		}
		select {
		case <-ctx.Done():
		case path := <-file:
			var since time.Time
			if info, err := os.Stat(path); err == nil {
				since = info.ModTime()
			}
			c <- since
		}
	})
	return c
}

func (e *Engine) oneNetwork(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	return e.opts.OneNetwork(ctx)
}
