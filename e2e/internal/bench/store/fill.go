// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	leases "github.com/containerd/containerd/api/services/leases/v1"
	api "github.com/containerd/containerd/api/services/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/neighpin/neighpin/e2e/internal/node"
)

// metadataKey is the key of the CRI plugin's own record inside a sandbox's (containerd internal/cri/server/podsandbox/helpers.go).
const metadataKey = "metadata"

// kubelet is what a kubelet says of a pod that a Deployment made: the record of a pod is mostly that and the OCI spec.
func kubelet() map[string]string {
	return map[string]string{
		"kubernetes.io/config.seen":   "2026-11-22T09:45:42.123456789Z",
		"kubernetes.io/config.source": "api",
		"kubernetes.io/psp":           "restricted",
		"prometheus.io/scrape":        "true",
		"prometheus.io/port":          "8080",
		"checksum/config":             strings.Repeat("0123456789abcdef", 4),
		"kubectl.kubernetes.io/last-applied-configuration": `{"apiVersion":"v1","kind":"Pod","spec":{"containers":[` +
			strings.Repeat(`{"name":"app","image":"registry.example/shop/app@sha256:0123","env":[{"name":"A","value":"b"}]},`, 12) + `]}}`,
	}
}

// template is what others are copied from: the record of a pod that runs.
type template struct {
	record *types.Sandbox
	pod    *node.Pod
}

// newTemplate runs a pod and reads what containerd keeps of it.
func newTemplate(ctx context.Context, n *node.Node, c *client) (*template, error) {
	pod, err := n.RunPod(ctx, node.PodSpec{Name: "template", Annotations: kubelet()})
	if err != nil {
		return nil, err
	}
	got, err := c.store.Get(c.in(ctx), &api.StoreGetRequest{SandboxID: pod.ID})
	if err != nil {
		return nil, fmt.Errorf("read the record of the pod: %w", err)
	}
	record := got.GetSandbox()
	if record.GetSpec() == nil || !bytes.Contains(record.GetExtensions()[metadataKey].GetValue(), []byte(pod.NetNS)) {
		return nil, fmt.Errorf("read the record of the pod: it has no OCI spec, or does not name %s", pod.NetNS)
	}
	return &template{record: record, pod: pod}, nil
}

// sandbox is what a copy is of.
type sandbox struct{ id, netns string }

// newSandbox makes up an id and a path as containerd does (internal/cri/util/id.go, pkg/netns/netns_linux.go).
func newSandbox() sandbox {
	var random [32 + 16]byte
	_, _ = rand.Read(random[:]) // never fails
	r := random[32:]
	return sandbox{id: hex.EncodeToString(random[:32]), netns: fmt.Sprintf("/var/run/netns/cni-%x-%x-%x-%x-%x", r[:4], r[4:6], r[6:8], r[8:10], r[10:])}
}

// of copies the record for another sandbox; both texts are of the same length as the original's, and so is the record.
func (t *template) of(s sandbox) *types.Sandbox {
	record := proto.CloneOf(t.record)
	replace := strings.NewReplacer(t.pod.ID, s.id, t.pod.NetNS, s.netns)
	exchange := func(a *anypb.Any) { a.Value = []byte(replace.Replace(string(a.GetValue()))) }
	for _, extension := range record.Extensions {
		exchange(extension)
	}
	exchange(record.Spec)
	record.SandboxID = s.id
	return record
}

// starting is the record as it is between CNI's result and the end of the sandbox's start: without what that adds
// (containerd internal/cri/server/sandbox_run.go).
func (t *template) starting(s sandbox) *types.Sandbox {
	record := t.of(s)
	record.Spec, record.Labels = nil, map[string]string{"name": "template_default_" + s.id[:8] + "_0"}
	return record
}

// large is a record whose pod has annotations of that size.
func (t *template) large(s sandbox, size int) *types.Sandbox {
	record := t.of(s)
	const mark = `"annotations":{`
	old := record.Extensions[metadataKey].Value
	record.Extensions[metadataKey].Value = bytes.Replace(old, []byte(mark), []byte(mark+`"example.com/large":"`+strings.Repeat("x", size)+`",`), 1)
	return record
}

// create writes a record and the lease that goes with it.
func (c *client) create(ctx context.Context, record *types.Sandbox) error {
	if _, err := c.leases.Create(c.in(ctx), &leases.CreateRequest{ID: record.GetSandboxID()}); err != nil {
		return fmt.Errorf("write lease of sandbox %s: %w", record.GetSandboxID(), err)
	}
	if _, err := c.store.Create(c.in(ctx), &api.StoreCreateRequest{Sandbox: record}); err != nil {
		return fmt.Errorf("write record of sandbox %s: %w", record.GetSandboxID(), err)
	}
	return nil
}

// remove takes both away.
func (c *client) remove(ctx context.Context, id string) error {
	_, err := c.store.Delete(c.in(ctx), &api.StoreDeleteRequest{SandboxID: id})
	_, leaseErr := c.leases.Delete(c.in(ctx), &leases.DeleteRequest{ID: id})
	if err := errors.Join(err, leaseErr); err != nil {
		return fmt.Errorf("remove record of sandbox %s: %w", id, err)
	}
	return nil
}

// world is a store with sandboxes in it.
type world struct {
	*client
	containerd int // its process
	template   *template
	known      map[string]bool // ids of those that have started
	ids        []string        // the same, see others
	new        sandbox         // the one whose namespace has just appeared
}

// grow adds started sandboxes until there are n, with that of the template.
func (w *world) grow(ctx context.Context, n int) error {
	for len(w.known) < n {
		s := newSandbox()
		if err := w.create(ctx, w.template.of(s)); err != nil {
			return err
		}
		w.known[s.id] = true
	}
	return nil
}

// with does something while there is one more sandbox, which starts.
func (w *world) with(ctx context.Context, do func() error) error {
	w.new = newSandbox()
	if err := w.create(ctx, w.template.starting(w.new)); err != nil {
		return err
	}
	return errors.Join(do(), w.remove(ctx, w.new.id))
}

// withLarge does something while the pods of so many more sandboxes have annotations of that size.
func (w *world) withLarge(ctx context.Context, count, size int, do func() error) (err error) {
	for range count {
		s := newSandbox()
		if err := w.create(ctx, w.template.large(s, size)); err != nil {
			return err
		}
		w.known[s.id] = true
		defer func() {
			delete(w.known, s.id)
			w.ids = nil
			err = errors.Join(err, w.remove(ctx, s.id))
		}()
	}
	return do()
}

// others are the ids of the known ones. Making the list is not a part of any way.
func (w *world) others() []string {
	if len(w.ids) != len(w.known) {
		w.ids = slices.Collect(maps.Keys(w.known))
	}
	return w.ids
}
