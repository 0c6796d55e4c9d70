// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// witness hears what the kernel says of entries in all namespaces.
type witness struct{ watcher *neighbor.HostWatcher }

// place is a gateway's in a pod, which is known by its namespace's number.
type place struct {
	nsid int32
	dst  netip.Addr
}

func newWitness() (*witness, error) {
	watcher, err := neighbor.WatchHost()
	if err != nil {
		return nil, err
	}
	return &witness{watcher}, nil
}

// Close ends the listening.
func (w *witness) Close() error { return w.watcher.Close() }

// errDeaf says that not all that happened was heard.
var errDeaf = errors.New("events were lost")

// repaired waits until so many places have a permanent entry with that address, and returns when each pod's last one came, in the order of
// time.
func (w *witness) repaired(address neighbor.HardwareAddr, places int) ([]time.Time, error) {
	limit := time.AfterFunc(patience, func() { _ = w.watcher.Close() })
	defer limit.Stop()
	seen := make(map[place]bool, places)
	of := make(map[int32]int, places)
	var whole []time.Time
	for len(seen) < places {
		events, err := w.watcher.Receive()
		if err != nil {
			return nil, fmt.Errorf("wait for %d entries with %s, of which %d have come: %w", places, address, len(seen), err)
		}
		now := time.Now()
		for _, ev := range events {
			if ev.Kind == neighbor.Overrun {
				return nil, fmt.Errorf("wait for entries with %s: %w", address, errDeaf)
			}
			at := place{ev.NSID, ev.Dst}
			if ev.Kind != neighbor.NeighborChanged || !ev.Permanent() || ev.LLAddr != address || !ev.Ours || seen[at] {
				continue
			}
			seen[at] = true
			if of[ev.NSID]++; of[ev.NSID] == len(gateways()) {
				whole = append(whole, now)
			}
		}
	}
	return whole, nil
}
