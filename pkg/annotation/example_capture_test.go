// SPDX-License-Identifier: Apache-2.0

package annotation_test

import (
	"context"
	"fmt"
	"time"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

// capture returns the annotation for a network namespace: its gateways, with the
// link-layer addresses that the host's own links give away. It changes nothing.
func capture(ctx context.Context, pod *netns.NS) (string, error) {
	table, err := neighbor.Open(pod)
	if err != nil {
		return "", err
	}
	defer table.Close()
	found, err := table.Resolve(ctx, neighbor.Query{Limit: annotation.MaxNeighbors})
	if err != nil {
		return "", err
	}
	captured := annotation.Annotation{Cookie: pod.Cookie(), CapturedAt: time.Now()}
	for _, n := range found.Neighbors { // found.Skipped says why others are not among them
		captured.Neighbors = append(captured.Neighbors, annotation.Entry{
			Dst: n.Dst, Dev: n.Dev, LLAddr: annotation.HardwareAddr(n.LLAddr), Source: annotation.Source(n.Source),
		})
	}
	return captured.Marshal()
}

// A node without neighpin captures the gateways of a pod itself, after CNI and
// before the runtime takes the namespace over.
func Example_capture() {
	pod, err := netns.Open("/run/netns/pod")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pod.Close()
	value, err := capture(context.Background(), pod)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(annotation.Key, value) // for config.json
}
