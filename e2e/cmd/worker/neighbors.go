// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

// readNeighbors reads the pod's pinned neighbors from a live file. Its content is that of the annotation; a runtime that
// has the container's config.json reads them there with the same two checks.
func readNeighbors(path string, pod *netns.NS) ([]neighbor.Neighbor, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pinned, err := annotation.Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if pinned.Cookie != pod.Cookie() {
		return nil, fmt.Errorf("read %s: it is about namespace %d, the pod's is %d", path, pinned.Cookie, pod.Cookie())
	}
	var neighbors []neighbor.Neighbor
	for _, e := range pinned.Neighbors {
		// Without its source: entries that were somebody else's in the pod's namespace are nobody's in the own one.
		neighbors = append(neighbors, neighbor.Neighbor{Dst: e.Dst, Dev: e.Dev, LLAddr: neighbor.HardwareAddr(e.LLAddr)})
	}
	return neighbors, nil
}

// pin pins in the namespace and makes sure of it. The links must be up and have their addresses by then.
func pin(ctx context.Context, ns *netns.NS, neighbors []neighbor.Neighbor) error {
	table, err := neighbor.Open(ns)
	if err != nil {
		return err
	}
	defer table.Close()
	if err := table.Pin(ctx, neighbors); err != nil {
		return err
	}
	different, err := table.Verify(ctx, neighbors)
	if err == nil && len(different) > 0 {
		err = fmt.Errorf("pinned, and yet different: %+v", different)
	}
	return err
}
