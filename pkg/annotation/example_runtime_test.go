// SPDX-License-Identifier: Apache-2.0

package annotation_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

// neighborsOf reads what was pinned in the pod's network namespace. The value is
// the annotation's, or the content of the live file.
func neighborsOf(value string, pod *netns.NS) ([]neighbor.Neighbor, error) {
	pinned, err := annotation.Parse(value)
	if err != nil {
		return nil, err // names the field, and is short and printable however hostile the value
	}
	// The cookie tells whether it speaks of this pod's namespace, or was left from
	// another one.
	if pod.Cookie() != pinned.Cookie {
		return nil, fmt.Errorf("the neighbors are those of namespace %d, the pod's is %d: not applying them", pinned.Cookie, pod.Cookie())
	}
	var neighbors []neighbor.Neighbor
	for _, e := range pinned.Neighbors {
		// Without the source: Pin leaves "existing" entries to whoever made them,
		// and in the own namespace nobody has.
		neighbors = append(neighbors, neighbor.Neighbor{
			Dst: e.Dst, Dev: e.Dev, LLAddr: neighbor.HardwareAddr(e.LLAddr),
		})
	}
	return neighbors, nil
}

// pin pins in the runtime's own network namespace. Its links must be up and have
// their names and addresses: taking a link down, giving it another MAC, or moving
// it flushes its entries.
func pin(ctx context.Context, own *netns.NS, neighbors []neighbor.Neighbor) error {
	table, err := neighbor.Open(own)
	if err != nil {
		return err
	}
	defer table.Close()
	return table.Pin(ctx, neighbors) // nil: the kernel has acknowledged every entry
}

// pinFromConfig is for an OCI runtime, which has the container's config.json.
func pinFromConfig(ctx context.Context, configPath string, own *netns.NS) error {
	data, err := os.ReadFile(configPath)
	if err != nil {
		return err
	}
	var config specs.Spec
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("decode %s: %w", configPath, err)
	}
	value, ok := config.Annotations[annotation.Key]
	if !ok {
		return nil // the usual case: nothing to do
	}
	pod, err := netns.Open(networkPath(config))
	if err != nil {
		return err
	}
	defer pod.Close()
	neighbors, err := neighborsOf(value, pod)
	if err != nil {
		return err
	}
	return pin(ctx, own, neighbors)
}

// networkPath returns the path of the pod's network namespace.
func networkPath(config specs.Spec) string {
	if config.Linux == nil {
		return ""
	}
	i := slices.IndexFunc(config.Linux.Namespaces, func(ns specs.LinuxNamespace) bool {
		return ns.Type == specs.NetworkNamespace
	})
	if i < 0 {
		return ""
	}
	return config.Linux.Namespaces[i].Path
}

// An OCI runtime that builds a network namespace of its own takes the neighbors
// along that were pinned in the pod's.
func Example_runtime() {
	own, err := netns.Open("/run/myruntime/own") // links, addresses and routes are set up
	if err != nil {
		fmt.Println(err)
		return
	}
	defer own.Close()
	if err := pinFromConfig(context.Background(), "/run/myruntime/bundle/config.json", own); err != nil {
		fmt.Println("starting without pinned neighbors:", err)
	}
}
