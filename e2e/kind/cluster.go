// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const clusterName = "neighpin"

// Cluster is a Kubernetes cluster of one node.
type Cluster struct {
	docker *Docker
	kind   string
	node   string
}

// CreateCluster makes a cluster of one node from the image and waits until the node is ready. The caller must Delete it;
// when CreateCluster fails nothing of it is left.
func CreateCluster(ctx context.Context, d *Docker, m Materials, image string) (*Cluster, error) {
	configuration, err := node.ReadFile("node/cluster.yaml")
	if err != nil {
		return nil, fmt.Errorf("read the cluster's configuration: %w", err)
	}
	file := filepath.Join(run, "cluster.yaml")
	if err := os.WriteFile(file, configuration, 0o600); err != nil {
		return nil, fmt.Errorf("write the cluster's configuration: %w", err)
	}
	c := &Cluster{docker: d, kind: m.Kind.Path("kind"), node: clusterName + "-control-plane"}
	_, err = d.execute(ctx, nil, c.kind, "create", "cluster", "--name", clusterName, "--config", file, "--image", image, "--wait", "2m", "--retain")
	if err != nil {
		err = errors.Join(err, c.explain(ctx))
		return nil, errors.Join(err, c.Delete(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// explain is what the node's services said last, as an error.
func (c *Cluster) explain(ctx context.Context) error {
	var said []error
	for _, log := range []struct{ title, command string }{
		{"the node's journal ends with", "journalctl --no-pager --lines=20 --unit=kubelet --unit=containerd"},
		{"the control plane's logs end with", "find /var/log/pods -name '*.log' | sort | xargs --no-run-if-empty tail --lines=8"},
	} {
		text, err := c.Node(ctx, nil, "sh", "-c", log.command)
		said = append(said, err, fmt.Errorf("%s\n%s", log.title, tail(text)))
	}
	return errors.Join(said...)
}

// Load gives the node an image from the daemon's store, as a user of kind does.
func (c *Cluster) Load(ctx context.Context, image string) error {
	_, err := c.docker.execute(ctx, nil, c.kind, "load", "docker-image", "--name", clusterName, image)
	return err
}

// Node runs a command in the node and returns what it prints, without the last line feed. stdin may be nil.
func (c *Cluster) Node(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	docker := []string{"exec"}
	if stdin != nil {
		docker = append(docker, "--interactive")
	}
	return c.docker.Output(ctx, stdin, append(append(docker, c.node), args...)...)
}

// Kubectl runs kubectl in the node as the cluster's administrator.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.Node(ctx, nil, append([]string{"kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"}, args...)...)
}

// Apply applies manifests, which may be JSON or YAML.
func (c *Cluster) Apply(ctx context.Context, manifests string) error {
	_, err := c.Node(ctx, strings.NewReader(manifests), "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "apply", "-f", "-")
	return err
}

// Copy copies a folder of this machine into the node, where target must not exist yet.
func (c *Cluster) Copy(ctx context.Context, dir, target string) error {
	_, err := c.docker.Output(ctx, nil, "cp", dir, c.node+":"+target)
	return err
}

// Delete removes the cluster.
func (c *Cluster) Delete(ctx context.Context) error {
	_, err := c.docker.execute(ctx, nil, c.kind, "delete", "cluster", "--name", clusterName)
	return err
}
