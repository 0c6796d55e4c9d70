// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// undone is what scripts read of an uninstallation.
type undone []struct {
	ID       string          `json:"id"`
	Released []node.Neighbor `json:"released"`
}

// An uninstallation on pods of every kind: SIGTERM takes nothing back, unpin --all exactly what the records say is ours, and
// pods go on living without it.
func TestUninstall(t *testing.T) {
	keepLogs(t)
	wish := map[string]string{pinAnnotation: "true"}
	d := startDaemon(t)
	gvisor := runPod(t, node.PodSpec{Handler: "runsc"})
	kernel := runPod(t, node.PodSpec{Handler: "runc", Annotations: wish})
	owned := runPod(t, node.PodSpec{Handler: "runc", Namespace: "aws", Annotations: wish}) // whose CNI made its entries
	other := runPod(t, node.PodSpec{Handler: "runc"})
	containers := map[*node.Pod]*node.Container{}
	for _, pod := range []*node.Pod{gvisor, kernel, owned} {
		containers[pod] = runContainer(t, pod)
		if _, err := started(t.Context(), d, pod); err != nil {
			t.Fatal(err)
		}
	}
	// What looks like ours and is in no record: by hand, with our mark, in a pod of ours and in another.
	const strange = "02:00:00:00:00:77"
	for _, pod := range []*node.Pod{kernel, other} {
		ip(t, "-n", filepath.Base(pod.NetNS), "neighbor", "add", "10.97.255.77", "lladdr", strange, "dev", "eth0", "nud", "permanent", "protocol", "177")
	}
	before := map[*node.Pod]string{}
	for _, pod := range []*node.Pod{gvisor, kernel, owned, other} {
		before[pod] = fmt.Sprint(entries(t, filepath.Base(pod.NetNS)))
	}

	if out, code, err := bed.CLI(t.Context(), "unpin", "--all"); code != 1 {
		t.Errorf("while the daemon runs: exit code %d, %v: %s", code, err, out)
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for pod, want := range before {
		if got := fmt.Sprint(entries(t, filepath.Base(pod.NetNS))); got != want {
			t.Errorf("SIGTERM changed the entries of a %s pod from %s to %s", pod.Namespace, want, got)
		}
	}
	if records, err := d.Records(); err != nil || len(records) != 3 {
		t.Errorf("after SIGTERM: records %v, %v; want three", records, err)
	}

	out, code, err := bed.CLI(t.Context(), "unpin", "--all", "-o", "json")
	var list undone
	if jsonErr := json.Unmarshal([]byte(out), &list); code != 0 || jsonErr != nil {
		t.Fatalf("unpin --all: exit code %d, %v, %v\n%s", code, err, jsonErr, out)
	}
	released := map[string]int{}
	for _, u := range list {
		released[u.ID] = len(u.Released)
	}
	// gVisor took the IPv4 addresses' pins away with the addresses; what is left there is ours as well.
	delete(released, gvisor.ID)
	if want := map[string]int{kernel.ID: len(gateways), owned.ID: 0}; len(list) != 3 || !maps.Equal(released, want) {
		t.Errorf("taken back: %v of %d sandboxes, want %v", released, len(list), want)
	}
	if left := entries(t, filepath.Base(gvisor.NetNS)); len(left) != 0 {
		t.Errorf("gVisor's namespace has %v", left)
	}
	if left := fmt.Sprint(entries(t, filepath.Base(kernel.NetNS))); left != "map[10.97.255.77:"+strange+"]" {
		t.Errorf("the pod on the kernel's stack has %s, want only what we did not make", left)
	}
	for _, pod := range []*node.Pod{owned, other} {
		if left := fmt.Sprint(entries(t, filepath.Base(pod.NetNS))); left != before[pod] {
			t.Errorf("a pod with nothing of ours had %s and has %s", before[pod], left)
		}
	}
	if records, err := d.Records(); err != nil || len(records) != 0 {
		t.Errorf("records %v, %v; want none", records, err)
	}
	for _, container := range containers {
		connect(t, container)
	}
}

// namespaces are the names in the runtime's folder.
func namespaces(t *testing.T) map[string]bool {
	t.Helper()
	found, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, entry := range found {
		names[entry.Name()] = true
	}
	return names
}

// containerd dies in the midst of a pod's start. Meanwhile pins are repaired; afterwards it is as before, and of the pod that
// never came to be nothing is held.
func TestContainerdKilledUnderneath(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	gvisor := runPod(t, node.PodSpec{Handler: "runsc"})
	kernel := runPod(t, node.PodSpec{Handler: "runc", Annotations: map[string]string{pinAnnotation: "true"}})
	runContainer(t, kernel)
	if _, err := started(t.Context(), d, kernel); err != nil {
		t.Fatal(err)
	}
	was := namespaces(t)
	failed := make(chan error, 1)
	go func() {
		_, err := bed.RunPod(context.WithoutCancel(t.Context()), node.PodSpec{Namespace: "slow", Handler: "runsc"})
		failed <- err
	}()
	err := await.Within(t.Context(), patience, "the namespace of the pod that starts", func() error {
		if len(namespaces(t)) == len(was) {
			return errors.New("there is none")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	bed.KillContainerd()
	if err := <-failed; err == nil {
		t.Fatal("the pod runs, although containerd was killed while its CNI worked")
	}
	ip(t, "-n", filepath.Base(kernel.NetNS), "neighbor", "delete", node.Gateway4.String(), "dev", "eth0")
	err = await.Within(t.Context(), patience, "the pin to be back without containerd", func() error {
		return checkTrue(kernel, entries(t, filepath.Base(kernel.NetNS)))
	})
	if err != nil {
		t.Error(err)
	}
	if err := bed.RestartContainerd(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pod := range []*node.Pod{gvisor, kernel} {
		if err := checkLater(t.Context(), d, pod); err != nil {
			t.Errorf("a pod from before: %v", err)
		}
	}
	after := runPod(t, node.PodSpec{Handler: "runsc"})
	if err := checkPinned(t.Context(), d, after, runContainer(t, after)); err != nil {
		t.Errorf("a pod from after: %v", err)
	}
	if err := bed.RemoveAllPods(t.Context()); err != nil {
		t.Fatal(err)
	}
	settled(t, d, nil)
	if err := closed(t.Context(), d); err != nil {
		t.Error(err)
	}
}
