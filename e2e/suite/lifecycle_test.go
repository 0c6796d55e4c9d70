// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/descriptors"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/nsid"
)

// gone waits for the end of a namespace and of whatever holds it.
func gone(ctx context.Context, id int) error {
	return await.Within(ctx, patience, fmt.Sprintf("the end of namespace %d", id), func() error {
		exists, err := nsid.Exists(id)
		if err == nil && exists {
			err = fmt.Errorf("it exists")
		}
		return err
	})
}

// Shows that the next test would see a namespace that something holds.
func TestControlAHeldNamespaceIsSeen(t *testing.T) {
	keepLogs(t)
	pod, err := bed.RunPod(t.Context(), node.PodSpec{Handler: "runsc"})
	if err != nil {
		t.Fatal(err)
	}
	id, err := nsid.Of(pod.NetNS)
	if err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(pod.NetNS)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := pod.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exists, err := nsid.Exists(id); err != nil || !exists {
		t.Fatalf("namespace %d is held by a descriptor, yet it exists is %t, %v", id, exists, err)
	}
	held.Close()
	if err := gone(t.Context(), id); err != nil {
		t.Error(err)
	}
}

func TestRemovedPodsLeaveNothing(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	// Some descriptors are opened at the first use and kept.
	ids := comeAndGo(t)
	settled(t, d, ids)
	before, err := descriptors.Open(strconv.Itoa(d.PID()))
	if err != nil {
		t.Fatal(err)
	}

	settled(t, d, comeAndGo(t))
	err = await.Within(t.Context(), patience, "the daemon's descriptors to be as before", func() error {
		now, err := descriptors.Open(strconv.Itoa(d.PID()))
		if err == nil && len(now) > len(before) {
			err = fmt.Errorf("it has %d: %v\nbefore the pods there were %d: %v", len(now), now, len(before), before)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// comeAndGo runs pods of every kind, removes them and returns the ids of their namespaces.
func comeAndGo(t *testing.T) []int {
	t.Helper()
	var ids []int
	for _, spec := range []node.PodSpec{
		{Handler: "runsc"},
		{Handler: "runsc"},
		{Handler: "runsc", Namespace: "aws"},
		{Handler: "runc"},
		{Handler: "runc", Annotations: map[string]string{pinAnnotation: "true"}},
	} {
		pod, err := bed.RunPod(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		runContainer(t, pod)
		id, err := nsid.Of(pod.NetNS)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		if err := pod.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// settled waits until the namespaces and all records are gone.
func settled(t *testing.T, d *node.Daemon, ids []int) {
	t.Helper()
	for _, id := range ids {
		if err := gone(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	err := await.Within(t.Context(), patience, "the end of all records", func() error {
		records, err := d.Records()
		if err == nil && len(records) != 0 {
			err = fmt.Errorf("there are records of %v", records)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// containerd forgets older pods when it restarts and never tells NRI of their end: what is gone must be
// noticed all the same.
func TestPodsRemovedWhileNobodyWatched(t *testing.T) {
	keepLogs(t)
	first := startDaemon(t)
	pod, err := bed.RunPod(t.Context(), node.PodSpec{Handler: "runsc"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := started(t.Context(), first, pod); err != nil {
		t.Fatal(err)
	}
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	if records, err := first.Records(); err != nil || len(records) != 1 {
		t.Fatalf("records %v, %v; want the pod's", records, err)
	}
	if err := pod.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := startDaemon(t)
	settled(t, second, nil)
}
