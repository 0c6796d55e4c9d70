// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

const (
	// app is the namespace of neighpin, and the name of its objects.
	app = "neighpin"
	// home is where the tests' pods run; shunned is excluded by the configuration that the tests install with.
	home    = "neighpin-e2e"
	shunned = "neighpin-e2e-excluded"

	// patience bounds what kubectl waits for, and notice every other wait: for a machine that has other things to do. notice is far less than the
	// interval of neighpin's slow comparison, which would do in the end what was not heard of.
	patience = 5 * time.Minute
	notice   = 2 * time.Minute
	// look is the pause between two questions that cost a process.
	look = 250 * time.Millisecond
	// cleanupLimit bounds what is done after the test's context has ended.
	cleanupLimit = 5 * time.Minute
)

// bed is a cluster under test. Its context ends on SIGINT and SIGTERM, and then everything goes as after a failure.
type bed struct {
	ctx  context.Context
	kube Kube
	// own is the cluster where its nodes are at hand; nil for one that somebody else has (E2E_KUBECONFIG).
	own *Cluster
	// nodes are the names of the Linux nodes.
	nodes []string
	// deploy is the folder with manifests and chart.
	deploy string
	// image is neighpin's, workload that of the tests' pods, and runtimeClass selects gVisor.
	image, workload, runtimeClass string
	// neighpin is the binary of this checkout.
	neighpin  string
	installer installer
	// edited says that somebody has edited the ConfigMap by hand.
	edited bool
	// unpinned are the sandboxes that started without neighpin, by node: what is said of them is not held against it.
	unpinned map[string][]string
}

// newBed starts Docker and a cluster and has both removed at the end of the test.
func newBed(t *testing.T, m Materials) *bed {
	t.Helper()
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop)
	start := time.Now()
	docker, err := StartDocker(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := docker.Close(); err != nil {
			t.Error(err)
		}
	})
	image, err := NodeImage(ctx, docker, m, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := CreateCluster(ctx, docker, m, image)
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{
		ctx: ctx, kube: cluster.Kube, own: cluster, nodes: cluster.Nodes, deploy: filepath.Join(m.Checkout, "deploy"),
		workload: WorkloadImage, runtimeClass: "gvisor", neighpin: m.Programs.Neighpin(), unpinned: map[string][]string{},
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
		defer cancel()
		if t.Failed() {
			b.explain(ctx, t, m.Cache)
		}
		if err := cluster.Delete(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Logf("cluster of %d nodes ready after %s", len(b.nodes), time.Since(start).Round(time.Second))
	return b
}

// kubectl runs kubectl, which must succeed.
func (b *bed) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	output, err := b.kube.Output(b.ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// apply applies an object, which must be taken. The service account of a new namespace appears a moment after it.
func (b *bed) apply(t *testing.T, object any) {
	t.Helper()
	b.await(t, "the API server to take a manifest", func() error { return b.tryApply(object) })
}

func (b *bed) tryApply(object any) error {
	manifest, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return b.kube.Apply(b.ctx, string(manifest))
}

// onNode runs a shell command in a node, which must succeed.
func (b *bed) onNode(t *testing.T, node, script string) string {
	t.Helper()
	output, err := b.own.Node(b.ctx, node, nil, "sh", "-euc", script)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// await waits for what costs a process to find out.
func (b *bed) await(t *testing.T, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, notice)
	defer cancel()
	if err := await.Every(ctx, look, what, check); err != nil {
		t.Fatal(err)
	}
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("decode JSON: %v\n%s", err, text)
	}
}

// object is a part of a manifest.
type object = map[string]any

// namespaces makes those of the tests' pods.
func (b *bed) namespaces(t *testing.T) {
	t.Helper()
	for _, name := range []string{home, shunned} {
		b.apply(t, object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": name}})
	}
}

// explain keeps what a person would look at, and logs where it is.
func (b *bed) explain(ctx context.Context, t *testing.T, cache string) {
	dir, err := os.MkdirTemp(cache, "failed-"+time.Now().Format("20060102-150405-"))
	if err != nil {
		t.Error(err)
		return
	}
	keep := func(name, text string, err error) {
		if err != nil {
			text = errors.Join(errors.New(text), err).Error()
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	for name, args := range map[string][]string{
		"pods.txt":     {"get", "pods", "--all-namespaces", "--output", "wide"},
		"events.txt":   {"get", "events", "--all-namespaces", "--sort-by", ".lastTimestamp"},
		"describe.txt": {"describe", "pods", "--all-namespaces"},
		"objects.yaml": {"get", "daemonsets,configmaps,runtimeclasses", "--all-namespaces", "--output", "yaml"},
		"neighpin.log": {"logs", "--namespace", app, "--selector", "app.kubernetes.io/name=neighpin", "--prefix", "--tail", "-1"},
	} {
		output, err := b.kube.Output(ctx, args...)
		keep(name, output, err)
	}
	if b.own != nil {
		for _, node := range b.nodes {
			for name, script := range nodeArtifacts {
				output, err := b.own.Node(ctx, node, nil, "sh", "-c", script)
				keep(node+"-"+name, output, err)
				if name == "containerd.log" && strings.Contains(output, "BlockPluginSync") {
					t.Logf("on node %s goroutines of containerd are in BlockPluginSync: where no call of the CRI returns any more, that is its "+
						"deadlock around plugins that register while sandboxes are removed, see docs/compatibility.md", node)
				}
			}
		}
	}
	t.Logf("what the cluster was like: %s", dir)
}

// nodeArtifacts are the scripts that print what is kept of a node. SIGUSR1 has containerd log where its goroutines are.
var nodeArtifacts = map[string]string{
	"containerd.log": "pkill -USR1 -x containerd; timeout 10 journalctl --follow --lines=all --unit=containerd | grep -q 'END goroutine stack dump'; " +
		"journalctl --no-pager --unit=containerd",
	"kubelet.log":  "journalctl --no-pager --unit=kubelet",
	"links.txt":    "ip -details address; ip neigh; ip -6 neigh; ip route; ip -6 route",
	"records.json": "cat /run/neighpin/sandboxes/*.json",
	"runsc.log":    "tail -n +1 /var/log/runsc/*/start.log",
}
