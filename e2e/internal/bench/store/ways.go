// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	leases "github.com/containerd/containerd/api/services/leases/v1"
	api "github.com/containerd/containerd/api/services/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Names of the ways.
const (
	everythingName = "list everything"
	othersName     = "list without the known ids"
	labelName      = "list by label"
	leasesName     = "leases, then get"
	getName        = "get by id"
	oursName       = "neighpin"
	againName      = "neighpin, asking again"
	firstName      = "neighpin, knowing none"
)

// way finds the sandbox that has a namespace; empty if there is none.
type way struct {
	name string
	find func(ctx context.Context, w *world) (id string, err error)
	// ready is called before each time, and not measured; nil for nothing.
	ready func(ctx context.Context, w *world) error
}

// ways are what the store offers. None of them takes a path: filters know ids and labels alone (containerd
// core/metadata/adaptors.go, adaptSandbox). Until a sandbox has started its record lacks the label that is asked for here
// (from containerd 2.3 on; before, records never get it).
func ways() []way {
	return []way{
		{name: everythingName, find: func(ctx context.Context, w *world) (string, error) { return w.list(ctx) }},
		{name: othersName, find: func(ctx context.Context, w *world) (string, error) {
			return w.list(ctx, "id!="+strings.Join(w.others(), ",id!="))
		}},
		{name: labelName, find: func(ctx context.Context, w *world) (string, error) {
			return w.list(ctx, `labels."io.cri-containerd.kind"!=sandbox`)
		}},
		{name: leasesName, find: byLease},
		{name: getName, find: func(ctx context.Context, w *world) (string, error) { return w.get(ctx, w.new.id) }},
		{name: oursName, find: ours, ready: forget},
		{name: againName, find: ours, ready: askOnce},
		{name: firstName, find: oursFirst, ready: forget},
	}
}

// list asks for all records that a filter lets through, and looks for the namespace in them.
func (w *world) list(ctx context.Context, filters ...string) (string, error) {
	response, err := w.store.List(w.in(ctx), &api.StoreListRequest{Filters: filters})
	if err != nil {
		return "", err
	}
	for _, record := range response.GetList() {
		if w.owns(record) {
			return record.GetSandboxID(), nil
		}
	}
	return "", nil
}

// get asks for one record.
func (w *world) get(ctx context.Context, id string) (string, error) {
	response, err := w.store.Get(w.in(ctx), &api.StoreGetRequest{SandboxID: id})
	if err != nil || !w.owns(response.GetSandbox()) {
		return "", err
	}
	return id, nil
}

// owns tells whether a record names the new namespace.
func (w *world) owns(record *types.Sandbox) bool {
	return bytes.Contains(record.GetExtensions()[metadataKey].GetValue(), []byte(w.new.netns))
}

// byLease asks for the leases, of which every sandbox has one of its id from containerd 2.1 on, and for the records of those that
// are not known.
func byLease(ctx context.Context, w *world) (string, error) {
	response, err := w.leases.List(w.in(ctx), &leases.ListRequest{})
	if err != nil {
		return "", err
	}
	for _, lease := range response.GetLeases() {
		if w.known[lease.GetID()] {
			continue
		}
		id, err := w.get(ctx, lease.GetID())
		if status.Code(err) == codes.NotFound {
			continue // a lease for something else
		}
		if id != "" || err != nil {
			return id, err
		}
	}
	return "", nil
}

// memory is for how long neighpin goes by the last list of leases (pkg/containerd, leaseAge).
const memory = 5 * time.Millisecond

// forget lets that pass.
func forget(ctx context.Context, _ *world) error {
	select {
	case <-time.After(2 * memory):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// askOnce asks neighpin's question, so that the next one is another of the same.
func askOnce(ctx context.Context, w *world) error {
	_, err := ours(ctx, w)
	return err
}

// ours is the engine's question.
func ours(ctx context.Context, w *world) (string, error) { return w.ask(ctx, w.others()) }

// oursFirst is its first one, where no state of an earlier process tells of any sandbox. It has to find them all.
func oursFirst(ctx context.Context, w *world) (string, error) { return w.ask(ctx, nil) }

func (w *world) ask(ctx context.Context, known []string) (id string, err error) {
	records, err := w.product.List(ctx, known)
	if err != nil {
		return "", err
	}
	if want := 1 + len(w.known) - len(known); len(records) != want {
		return "", fmt.Errorf("list sandboxes: %d answered, want %d", len(records), want)
	}
	for _, record := range records {
		if record.NetNSPath == w.new.netns {
			id = record.ID
		}
	}
	return id, nil
}
