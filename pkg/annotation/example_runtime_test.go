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

// What stands between the two marks is shown in docs/runtime-authors.md, word for
// word; TestDocsShowTheExample holds them together.

// docs:begin

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

// docs:end

func ExampleParse() {
	value := `{"version":1,"cookie":4711,"capturedAt":"2026-11-22T00:18:00.5Z","neighbors":[` +
		`{"dst":"10.88.0.1","dev":"eth0","lladdr":"0a:58:0a:58:00:01","state":["PERMANENT"],"source":"peer"}]}`
	pinned, err := annotation.Parse(value)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range pinned.Neighbors {
		fmt.Printf("%s is at %s on %s\n", e.Dst, e.LLAddr, e.Dev)
	}
	// Output: 10.88.0.1 is at 0a:58:0a:58:00:01 on eth0
}

func ExampleParse_refusal() {
	_, err := annotation.Parse(`{"version":1,"cookie":4711,"capturedAt":"2026-11-22T00:18:00.5Z","neighbors":[` +
		`{"dst":"10.88.0.1","dev":"eth0","lladdr":"ff:ff:ff:ff:ff:ff","state":["PERMANENT"],"source":"peer"}]}`)
	fmt.Println(err)
	// Output: parse annotation io.neighpin.neighbors: neighbors[0].lladdr: want a unicast address, got the group address ff:ff:ff:ff:ff:ff
}
