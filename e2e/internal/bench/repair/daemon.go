// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"fmt"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// patience bounds every wait for neighpin.
const patience = time.Minute

// daemon is neighpin in a process of its own.
type daemon struct{ *rig.Daemon }

// startDaemon starts program for the pods of a segment.
func startDaemon(program, folder, socket string, s *segment) (*daemon, error) {
	d, err := rig.StartDaemon(rig.DaemonOptions{Program: program, Folder: folder, NetNS: s.folder, Socket: socket,
		Args: []string{"--handlers", handler, "--annotate", handler, "--compare-interval", "1h"}})
	if err != nil {
		return nil, err
	}
	return &daemon{d}, nil
}

// looks is how often the daemon has looked at a pod, whatever the cause.
func (d *daemon) looks(ctx context.Context) (float64, error) {
	m, err := d.Metrics(ctx)
	return m.Looks(), err
}

// recorded waits until every pod's record is on disk, has started, and says that both gateways have that address.
func (d *daemon) recorded(ctx context.Context, address string, pods int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return await.Every(ctx, 100*time.Millisecond, "every pod's record to say "+address, func() error {
		records, err := record.In(d.State).List()
		if err != nil {
			return err
		}
		right := 0
		for _, rec := range records {
			if rec.Phase == record.Started && len(rec.Neighbors) == 2 && rec.Neighbors[0].LLAddr == neighbor.HardwareAddr(address) &&
				rec.Neighbors[1].LLAddr == neighbor.HardwareAddr(address) && rec.Neighbors[0].Source == neighbor.SourceHost {
				right++
			}
		}
		if right != pods {
			return fmt.Errorf("%d do, of %d; want %d", right, len(records), pods)
		}
		return nil
	})
}
