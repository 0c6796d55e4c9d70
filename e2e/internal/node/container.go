// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ContainerSpec is what a test says about a container.
type ContainerSpec struct {
	// Name is "main" if empty.
	Name string
	// Args are the workload's; without any it waits.
	Args        []string
	Annotations map[string]string
	// Program runs instead of the workload; Mounts may bring it.
	Program string
	Mounts  []Mount
	// User is the user id that it runs as; root if 0.
	User int64
	// Privileged works in pods that are, too.
	Privileged bool
	// Capabilities are those beyond the runtime's defaults, such as "NET_ADMIN".
	Capabilities []string
}

// Mount shows a file or folder of the node in a container.
type Mount struct {
	Source, Target string
	Writable       bool
}

// Container is a container of a pod.
type Container struct {
	ID  string
	Pod *Pod

	name string
}

// Create creates a container and does not start it.
func (p *Pod) Create(ctx context.Context, spec ContainerSpec) (*Container, error) {
	if spec.Name == "" {
		spec.Name = "main"
	}
	config := &criapi.ContainerConfig{
		Metadata:    &criapi.ContainerMetadata{Name: spec.Name},
		Image:       &criapi.ImageSpec{Image: Image},
		Args:        spec.Args,
		Annotations: spec.Annotations,
		Labels:      map[string]string{"io.kubernetes.container.name": spec.Name},
		LogPath:     spec.Name + ".log",
		Linux: &criapi.LinuxContainerConfig{SecurityContext: &criapi.LinuxContainerSecurityContext{
			Privileged:   spec.Privileged,
			Capabilities: &criapi.Capability{AddCapabilities: spec.Capabilities},
			// The runtime refuses a container whose user namespace is not its pod's.
			NamespaceOptions: &criapi.NamespaceOption{UsernsOptions: p.config.Linux.SecurityContext.NamespaceOptions.UsernsOptions},
		}},
	}
	if spec.User != 0 {
		config.Linux.SecurityContext.RunAsUser = &criapi.Int64Value{Value: spec.User}
	}
	if spec.Program != "" {
		config.Command = []string{spec.Program}
	}
	for _, m := range spec.Mounts {
		config.Mounts = append(config.Mounts, &criapi.Mount{HostPath: m.Source, ContainerPath: m.Target, Readonly: !m.Writable})
	}
	id, err := p.node.runtime.CreateContainer(quiet(ctx), p.ID, config, p.config)
	if err != nil {
		return nil, fmt.Errorf("create container %s of pod %s/%s: %w", spec.Name, p.Namespace, p.Name, err)
	}
	return &Container{ID: id, Pod: p, name: spec.Name}, nil
}

// Start starts the container.
func (c *Container) Start(ctx context.Context) error {
	if err := c.Pod.node.runtime.StartContainer(quiet(ctx), c.ID); err != nil {
		return fmt.Errorf("start container %s of pod %s/%s: %w", c.ID, c.Pod.Namespace, c.Pod.Name, err)
	}
	return nil
}

// Run creates and starts a container.
func (p *Pod) Run(ctx context.Context, spec ContainerSpec) (*Container, error) {
	c, err := p.Create(ctx, spec)
	if err != nil {
		return nil, err
	}
	return c, c.Start(ctx)
}

// Stop stops the container at once.
func (c *Container) Stop(ctx context.Context) error {
	if err := c.Pod.node.runtime.StopContainer(quiet(ctx), c.ID, 0); err != nil {
		return fmt.Errorf("stop container %s: %w", c.ID, err)
	}
	return nil
}

// Remove stops the container if need be and removes it.
func (c *Container) Remove(ctx context.Context) error {
	if err := c.Pod.node.runtime.RemoveContainer(quiet(ctx), c.ID); err != nil {
		return fmt.Errorf("remove container %s: %w", c.ID, err)
	}
	return nil
}

// execLost is what the CRI reports of a process that was done before `runsc exec` had looked for its pid file, which happens
// on busy machines (gvisor runsc/cmd/exec.go, execChildAndWait): the process ran, its result is lost.
const execLost = "runsc did not terminate successfully"

// Exec runs the workload in the container and returns its output; an exit code other than 0 is an error. It may run it
// again where gVisor has lost the result.
func (c *Container) Exec(ctx context.Context, args ...string) (string, error) {
	return c.Command(ctx, append([]string{"/workload"}, args...)...)
}

// Command is Exec for another program of the container.
func (c *Container) Command(ctx context.Context, args ...string) (string, error) {
	const tries = 3
	for try := 1; ; try++ {
		stdout, stderr, err := c.Pod.node.runtime.ExecSync(quiet(ctx), c.ID, args, callLimit)
		if err == nil {
			return string(stdout), nil
		}
		if try == tries || !strings.Contains(err.Error(), execLost) {
			return string(stdout), fmt.Errorf("exec %v in pod %s/%s: %w\n%s%s", args, c.Pod.Namespace, c.Pod.Name, err, stdout, stderr)
		}
	}
}

// Connect opens a TCP connection from the container to every one of Targets.
func (c *Container) Connect(ctx context.Context) (string, error) {
	return c.Exec(ctx, append([]string{"connect"}, Targets()...)...)
}

// Annotations are those of the container's config.json, what its OCI runtime was given.
func (c *Container) Annotations() (map[string]string, error) { return ociAnnotations(c.ID) }

// SandboxAnnotations are those of the sandbox's own config.json.
func (p *Pod) SandboxAnnotations() (map[string]string, error) { return ociAnnotations(p.ID) }

func ociAnnotations(id string) (map[string]string, error) {
	path := filepath.Join(bundleOf(id), "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	return spec.Annotations, nil
}
