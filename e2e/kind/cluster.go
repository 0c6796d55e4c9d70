// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/neighpin/neighpin/e2e/internal/wire"
	"github.com/neighpin/neighpin/pkg/netns"
)

const clusterName = "neighpin"

// Cluster is a Kubernetes cluster of two nodes that are at hand.
type Cluster struct {
	docker *Docker
	kind   string
	// Nodes are the nodes' names in Kubernetes, which are those of their containers. The first has the control plane.
	Nodes []string
	// Kube reaches the cluster from outside.
	Kube Kube
}

// CreateCluster makes a cluster from the image and waits until its nodes are ready. The caller must Delete it; when
// CreateCluster fails nothing of it is left.
func CreateCluster(ctx context.Context, d *Docker, m Materials, image string) (*Cluster, error) {
	configuration, err := node.ReadFile("node/cluster.yaml")
	if err != nil {
		return nil, fmt.Errorf("read the cluster's configuration: %w", err)
	}
	file := filepath.Join(run, "cluster.yaml")
	if err := os.WriteFile(file, configuration, 0o600); err != nil {
		return nil, fmt.Errorf("write the cluster's configuration: %w", err)
	}
	c := &Cluster{
		docker: d, kind: m.Kind.Path("kind"),
		Nodes: []string{clusterName + "-control-plane", clusterName + "-worker"},
		Kube:  Kube{Kubectl: m.Kubernetes.Path("kubectl"), Helm: m.Helm.Path("helm"), Environment: environment()},
	}
	_, err = d.execute(ctx, nil, c.kind, "create", "cluster", "--name", clusterName, "--config", file, "--image", image, "--wait", "6m", "--retain")
	if err == nil {
		err = c.serveAPI(ctx)
	}
	if err != nil {
		err = errors.Join(err, c.explain(ctx))
		return nil, errors.Join(err, c.Delete(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// serveAPI makes the one Service that the tests need, the API server's, on each node: kube-proxy's place is empty.
func (c *Cluster) serveAPI(ctx context.Context) error {
	for _, name := range c.Nodes {
		_, err := c.Node(ctx, name, nil, "sh", "-euc", `iptables --wait --table nat --append OUTPUT --protocol tcp --destination 10.96.0.1 --dport 443 `+
			`--jump DNAT --to-destination "$(getent ahostsv4 `+c.Nodes[0]+` | awk 'NR == 1 { print $1 }')":6443`)
		if err != nil {
			return err
		}
	}
	return nil
}

// explain is what the nodes' services said last, as an error.
func (c *Cluster) explain(ctx context.Context) error {
	var said []error
	for _, name := range c.Nodes {
		for _, log := range []struct{ title, command string }{
			{"journal", "journalctl --no-pager --lines=20 --unit=kubelet --unit=containerd"},
			{"control plane's logs", "find /var/log/pods -name '*.log' | sort | xargs --no-run-if-empty tail --lines=8"},
		} {
			text, err := c.Node(ctx, name, nil, "sh", "-c", log.command)
			said = append(said, err, fmt.Errorf("%s: the %s ends with\n%s", name, log.title, tail(text)))
		}
	}
	return errors.Join(said...)
}

// Load gives the nodes an image from the daemon's store, as a user of kind does.
func (c *Cluster) Load(ctx context.Context, image string) error {
	_, err := c.docker.execute(ctx, nil, c.kind, "load", "docker-image", "--name", clusterName, image)
	return err
}

// Node runs a command in a node and returns what it prints, without the last line feed. stdin may be nil.
func (c *Cluster) Node(ctx context.Context, name string, stdin io.Reader, args ...string) (string, error) {
	docker := []string{"exec"}
	if stdin != nil {
		docker = append(docker, "--interactive")
	}
	return c.docker.Output(ctx, stdin, append(append(docker, name), args...)...)
}

// Listen records who asks for whom on every link of a node, hence on the node's ends of its pods' links.
func (c *Cluster) Listen(ctx context.Context, name string) (*wire.Capture, error) {
	pid, err := c.docker.Output(ctx, nil, "inspect", "--format", "{{.State.Pid}}", name)
	if err != nil {
		return nil, err
	}
	if _, err := strconv.Atoi(strings.TrimSpace(pid)); err != nil {
		return nil, fmt.Errorf("find the process of node %s: %w", name, err)
	}
	ns, err := netns.Open(filepath.Join("/proc", strings.TrimSpace(pid), "ns/net"))
	if err != nil {
		return nil, fmt.Errorf("open the network of node %s: %w", name, err)
	}
	var capture *wire.Capture
	err = ns.Do(func() (err error) {
		capture, err = wire.Open()
		return err
	})
	return capture, errors.Join(err, ns.Close())
}

// Delete removes the cluster.
func (c *Cluster) Delete(ctx context.Context) error {
	_, err := c.docker.execute(ctx, nil, c.kind, "delete", "cluster", "--name", clusterName)
	return err
}
