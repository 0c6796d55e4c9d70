// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// Inside is the path by which a container of runc sees path, as the node reaches it: through the root of the container's
// first process, with the mounts that the container has.
func (c *Container) Inside(path string) (string, error) {
	// runc's shim leaves it there.
	data, err := os.ReadFile(filepath.Join(bundleOf(c.ID), "init.pid"))
	if err != nil {
		return "", fmt.Errorf("find the first process of container %s: %w", c.ID, err)
	}
	return filepath.Join("/proc", strings.TrimSpace(string(data)), "root", path), nil
}

// Output is what the container has written, a line each: time, stream, a tag, the text.
func (c *Container) Output() (string, error) {
	data, err := os.ReadFile(filepath.Join(c.Pod.config.LogDirectory, c.name+".log"))
	if err != nil {
		return "", fmt.Errorf("read the output of container %s: %w", c.ID, err)
	}
	return string(data), nil
}

// bundleOf is the folder with config.json of a container or sandbox.
func bundleOf(id string) string {
	return filepath.Join(taskDir, id)
}

// taskDir holds a folder for each task, of sandboxes and containers.
const taskDir = dir + "/state/io.containerd.runtime.v2.task/k8s.io"

// Tasks are the ids of the sandboxes and containers that containerd has a task of.
func (n *Node) Tasks() ([]string, error) {
	entries, err := os.ReadDir(taskDir)
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	var ids []string
	for _, entry := range entries {
		ids = append(ids, entry.Name())
	}
	return ids, nil
}

// Programs says where the node's programs are.
func (n *Node) Programs() setup.Programs { return n.programs }
