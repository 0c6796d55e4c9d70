// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/neighpin/neighpin/e2e/internal/enclosure"
)

// Where neighpin is installed under the names of runtimes.
const (
	WrapperRunc  = dir + "/bin/neighpin-runc"
	WrapperRunsc = dir + "/bin/neighpin-runsc"
)

// InstallWrapper installs neighpin as an OCI runtime wrapper, with a configuration at its usual place, none if it is empty.
// What it returns takes both away. The machine's /etc does not change: a folder of the enclosure's own lies over it.
func (n *Node) InstallWrapper(config string) (remove func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(WrapperRunc), 0o755); err != nil {
		return nil, err
	}
	for _, link := range []string{WrapperRunc, WrapperRunsc} {
		if err := os.RemoveAll(link); err != nil {
			return nil, err
		}
		if err := os.Symlink(n.programs.Neighpin(), link); err != nil {
			return nil, fmt.Errorf("install the wrapper: %w", err)
		}
	}
	const upper, work, file = dir + "/etc/upper", dir + "/etc/work", "/etc/neighpin/runtime.yaml"
	for _, folder := range []string{upper, work} {
		if err := errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, 0o755)); err != nil {
			return nil, err
		}
	}
	if err := unix.Mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir="+upper+",workdir="+work); err != nil {
		return nil, fmt.Errorf("cover /etc: %w", err)
	}
	remove = func() error {
		return errors.Join(unix.Unmount("/etc", unix.MNT_DETACH), os.RemoveAll(filepath.Dir(WrapperRunc)))
	}
	if config == "" {
		return remove, nil
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(config), 0o644)); err != nil {
		return nil, errors.Join(err, remove())
	}
	return remove, nil
}

// Bundle is the folder with the pod's own config.json.
func (p *Pod) Bundle() string { return bundleOf(p.ID) }

// Bundle is the folder with the container's config.json.
func (c *Container) Bundle() string { return bundleOf(c.ID) }

// RunscRoot is where gVisor's shim lets runsc keep its state.
const RunscRoot = "/run/containerd/runsc/k8s.io"

// Result is what a program printed, and its exit code.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Command runs a program of the node with containerd's PATH. That it exits with another code than 0 is no error. Its output
// goes to files: what it leaves behind, such as a sandbox, holds a pipe open.
func (n *Node) Command(ctx context.Context, program string, args ...string) (Result, error) {
	var result Result
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "PATH="+n.programs.GVisor+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	files := make([]*os.File, 2)
	for i := range files {
		file, err := os.CreateTemp(dir, "output")
		if err != nil {
			return result, err
		}
		defer os.RemoveAll(file.Name())
		defer file.Close()
		files[i] = file
	}
	cmd.Stdout, cmd.Stderr = files[0], files[1]
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		result.Code, err = exit.ExitCode(), nil
	}
	for i, text := range []*string{&result.Stdout, &result.Stderr} {
		data, readErr := os.ReadFile(files[i].Name())
		*text, err = string(data), errors.Join(err, readErr)
	}
	return result, err
}

// Podman is an engine of its own, with images, containers and a network that only this node has.
type Podman struct {
	node *Node
	// Flags stand before podman's command.
	Flags []string
}

// podmanConfig keeps podman to what the machine allows: it cannot raise limits.
const podmanConfig = `[containers]
default_ulimits = []
cgroups = "no-conmon"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
[network]
network_backend = "cni"
network_config_dir = "` + PodmanNetworks + `"
cni_plugin_dirs = ["` + dir + `/cni-bin"]
default_network = "podman"
`

// podmanStorage needs nothing of the kernel's.
const podmanStorage = `[storage]
driver = "vfs"
graphroot = "` + dir + `/podman/root"
runroot = "` + dir + `/podman/run"
`

// podmanNetwork is a bridge that holds the gateways.
const podmanNetwork = `{
  "cniVersion": "0.4.0",
  "name": "podman",
  "plugins": [{
    "type": "bridge", "bridge": "np-podman", "isGateway": true,
    "ipam": {
      "type": "host-local", "dataDir": "` + dir + `/podman/ipam", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
      "ranges": [[{"subnet": "10.95.0.0/16"}], [{"subnet": "fd95::/64"}]]
    }
  }]
}
`

// PodmanNetworks is the folder of podman's networks.
const PodmanNetworks = dir + "/podman/net"

// StartPodman readies podman and loads the workload's image.
func (n *Node) StartPodman(ctx context.Context) (*Podman, error) {
	home := filepath.Join(dir, "podman")
	if err := os.MkdirAll(PodmanNetworks, 0o755); err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"containers.conf": podmanConfig, "net/podman.conflist": podmanNetwork, "storage.conf": podmanStorage} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	p := &Podman{node: n, Flags: []string{"--tmpdir", filepath.Join(home, "tmp")}}
	_, err := p.Do(ctx, "load", "--input", filepath.Join(dir, "image.tar"))
	return p, err
}

// Do runs a podman command that must do, and returns what it printed.
func (p *Podman) Do(ctx context.Context, args ...string) (string, error) {
	result, err := p.Run(ctx, args...)
	if err == nil && result.Code != 0 {
		err = fmt.Errorf("exit code %d", result.Code)
	}
	if err != nil {
		return "", fmt.Errorf("podman %v: %w\n%s", args, err, result.Stderr)
	}
	return strings.TrimSpace(result.Stdout), nil
}

// Run runs a podman command.
func (p *Podman) Run(ctx context.Context, args ...string) (Result, error) {
	home := filepath.Join(dir, "podman")
	env := []string{"CONTAINERS_CONF=" + filepath.Join(home, "containers.conf"), "CONTAINERS_STORAGE_CONF=" + filepath.Join(home, "storage.conf")}
	return p.node.Command(ctx, "env", append(append(append(env, "podman"), p.Flags...), args...)...)
}

// Create are the arguments of a container of the workload, in the node's cgroup.
func (p *Podman) Create(command string, flags ...string) []string {
	args := append([]string{command, "--cgroup-parent", enclosure.CgroupParent(), "--pull", "never"}, flags...)
	return append(args, Image)
}

// Inspect is one value that podman knows of a container.
func (p *Podman) Inspect(ctx context.Context, id, format string) (string, error) {
	return p.Do(ctx, "inspect", "--format", format, id)
}

// Terminate stops the container with its stop signal and kills it only after the limit.
func (c *Container) Terminate(ctx context.Context, limit time.Duration) error {
	if err := c.Pod.node.runtime.StopContainer(quiet(ctx), c.ID, int64(limit.Seconds())); err != nil {
		return fmt.Errorf("stop container %s: %w", c.ID, err)
	}
	return nil
}

// ExitCode is that of a container that has ended.
func (c *Container) ExitCode(ctx context.Context) (int, error) {
	response, err := c.Pod.node.runtime.ContainerStatus(quiet(ctx), c.ID, false)
	if err != nil {
		return 0, fmt.Errorf("look at container %s: %w", c.ID, err)
	}
	if response.Status.State != criapi.ContainerState_CONTAINER_EXITED {
		return 0, fmt.Errorf("look at container %s: it is %s", c.ID, response.Status.State)
	}
	return int(response.Status.ExitCode), nil
}
