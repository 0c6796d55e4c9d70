// SPDX-License-Identifier: Apache-2.0

package neighbor_test

import (
	"context"
	"fmt"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

// pinGateways pins the gateways of the network namespace at path, and returns
// those that the host knows no link-layer address for.
func pinGateways(ctx context.Context, path string) ([]neighbor.Skipped, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	table, err := neighbor.Open(ns)
	if err != nil {
		return nil, err
	}
	defer table.Close()
	found, err := table.Resolve(ctx, neighbor.Query{}) // reads only
	if err != nil {
		return nil, err
	}
	return found.Skipped, table.Pin(ctx, found.Neighbors) // nil: the kernel has acknowledged every entry
}

// After CNI has set a pod's network up, and before its runtime looks.
func Example() {
	skipped, err := pinGateways(context.Background(), "/run/netns/pod")
	if err != nil {
		fmt.Println(err)
	}
	for _, s := range skipped {
		fmt.Printf("not pinned: %s on %s: %s\n", s.Dst, s.Dev, s.Reason)
	}
}
