// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

// bed is a cluster under test. Its context ends on SIGINT and SIGTERM, and then everything goes as after a failure.
type bed struct {
	ctx       context.Context
	materials Materials
	docker    *Docker
	cluster   *Cluster
}

// cleanupLimit bounds what is done after the test's context has ended.
const cleanupLimit = 2 * time.Minute

// newBed starts Docker and a cluster and has both removed at the end of the test.
func newBed(t *testing.T) *bed {
	t.Helper()
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop)
	b := &bed{ctx: ctx}
	var err error
	if b.materials, err = Gathered(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if b.docker, err = StartDocker(ctx, b.materials); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.docker.Close(); err != nil {
			t.Error(err)
		}
	})
	image, err := NodeImage(ctx, b.docker, b.materials, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if b.cluster, err = CreateCluster(ctx, b.docker, b.materials, image); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
		defer cancel()
		if t.Failed() {
			b.explain(ctx, t)
		}
		if err := b.cluster.Delete(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Logf("cluster ready after %s", time.Since(start).Round(time.Second))
	return b
}

// explain logs what a person would look at first.
func (b *bed) explain(ctx context.Context, t *testing.T) {
	for _, args := range [][]string{
		{"get", "pods", "--all-namespaces", "--output", "wide"},
		{"get", "events", "--all-namespaces", "--field-selector", "type!=Normal"},
		{"logs", "--namespace", "neighpin", "daemonset/neighpin", "--tail", "60"},
	} {
		output, err := b.cluster.Kubectl(ctx, args...)
		t.Logf("kubectl %s:\n%s", strings.Join(args, " "), errorsOr(output, err))
	}
}

func errorsOr(output string, err error) string {
	if err != nil {
		return err.Error()
	}
	return output
}

// kubectl runs kubectl, which must succeed.
func (b *bed) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	output, err := b.cluster.Kubectl(b.ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// node runs a shell command in the node, which must succeed.
func (b *bed) node(t *testing.T, script string) string {
	t.Helper()
	output, err := b.cluster.Node(b.ctx, nil, "sh", "-euc", script)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// pod is a pod of one container, as the API server has it.
type pod struct {
	Metadata struct {
		Name string `json:"name"`
		UID  string `json:"uid"`
	} `json:"metadata"`
	Status struct {
		PodIPs []struct {
			IP string `json:"ip"`
		} `json:"podIPs"`
		ContainerStatuses []struct {
			ContainerID string `json:"containerID"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

// container is the id of its container in containerd.
func (p pod) container() string {
	_, id, _ := strings.Cut(p.Status.ContainerStatuses[0].ContainerID, "://")
	return id
}

// run makes a pod of the workload and waits until it is ready. runtimeClass may be empty.
func (b *bed) run(t *testing.T, name, runtimeClass string, annotations map[string]string) pod {
	t.Helper()
	spec := map[string]any{
		"automountServiceAccountToken": false,
		"containers":                   []any{map[string]any{"name": "workload", "image": WorkloadImage, "imagePullPolicy": "Never"}},
	}
	if runtimeClass != "" {
		spec["runtimeClassName"] = runtimeClass
	}
	manifest, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "spec": spec,
		"metadata": map[string]any{"name": name, "namespace": "default", "annotations": annotations},
	})
	if err != nil {
		t.Fatal(err)
	}
	// The service account appears a moment after the cluster.
	err = await.Within(b.ctx, 30*time.Second, "the API server to take pod "+name, func() error {
		return b.cluster.Apply(b.ctx, string(manifest))
	})
	if err != nil {
		t.Fatal(err)
	}
	b.kubectl(t, "wait", "--for=condition=Ready", "--timeout=90s", "pod/"+name)
	var p pod
	decode(t, b.kubectl(t, "get", "pod", name, "--output", "json"), &p)
	if len(p.Status.PodIPs) != 2 {
		t.Fatalf("pod %s has the addresses %v, want one of each family", name, p.Status.PodIPs)
	}
	return p
}

// configuration is the OCI configuration that the pod's container runs with.
func (b *bed) configuration(t *testing.T, p pod) (annotations map[string]string) {
	t.Helper()
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	decode(t, b.node(t, "cat "+filepath.Join("/run/containerd/io.containerd.runtime.v2.task/k8s.io", p.container(), "config.json")), &spec)
	return spec.Annotations
}

// permanent are the permanent entries in the namespace of a pod whose container is a process of the node's kernel.
func (b *bed) permanent(t *testing.T, p pod) string {
	t.Helper()
	return b.node(t, fmt.Sprintf(
		`pid=$(ctr --namespace k8s.io task ls 2>/dev/null | awk '$1 == "%s" { print $2 }'); nsenter --target "$pid" --net ip neigh show nud permanent`, p.container()))
}

// neighbor is an entry as neighpin shows it.
type neighbor struct {
	Dst    string   `json:"dst"`
	Dev    string   `json:"dev"`
	LLAddr string   `json:"lladdr"`
	State  []string `json:"state"`
	Source string   `json:"source"`
}

// sandbox is one of neighpin's records.
type sandbox struct {
	Name      string     `json:"name"`
	Handler   string     `json:"handler"`
	Phase     string     `json:"phase"`
	Neighbors []neighbor `json:"neighbors"`
	Timing    struct {
		Verdict  string  `json:"verdict"`
		MarginMs float64 `json:"marginMs"`
	} `json:"timing"`
	Annotated bool `json:"annotated"`
}

// status asks the node's neighpin what it has.
func (b *bed) status() (sandboxes map[string]sandbox, err error) {
	output, err := b.cluster.Kubectl(b.ctx, "exec", "--namespace", "neighpin", "daemonset/neighpin", "--", "/neighpin", "status", "--output", "json")
	if err != nil {
		return nil, err
	}
	var said struct {
		Sandboxes []sandbox `json:"sandboxes"`
	}
	if err := json.Unmarshal([]byte(output), &said); err != nil {
		return nil, fmt.Errorf("decode neighpin's status: %w\n%s", err, output)
	}
	sandboxes = map[string]sandbox{}
	for _, s := range said.Sandboxes {
		sandboxes[s.Name] = s
	}
	return sandboxes, nil
}

// settled waits until neighpin has a verdict on the pod and has annotated its container.
func (b *bed) settled(t *testing.T, p pod) sandbox {
	t.Helper()
	var found sandbox
	err := await.Within(b.ctx, 15*time.Second, "neighpin's verdict on pod "+p.Metadata.Name, func() error {
		all, err := b.status()
		if err != nil {
			return err
		}
		record, ok := all[p.Metadata.Name]
		switch {
		case !ok:
			return errors.New("neighpin has no record of it")
		case record.Timing.Verdict == "pending" || record.Timing.Verdict == "" || !record.Annotated:
			return fmt.Errorf("its record is %+v", record)
		}
		found = record
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("decode JSON: %v\n%s", err, text)
	}
}
