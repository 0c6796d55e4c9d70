// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"encoding/json"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/internal/nstest"
)

// The consumer (e2e/consumer) knows neighpin from its documents only. What it takes from the bundle of a container is what
// stands pinned in the pod, and what gVisor has copied.
func TestAReaderWrittenFromTheDocumentsAppliesWhatABundleCarries(t *testing.T) {
	keepLogs(t)
	startDaemon(t)
	for _, handler := range []string{"runc", "runsc"} {
		t.Run(handler, func(t *testing.T) {
			pod := runPod(t, node.PodSpec{Handler: handler, Annotations: map[string]string{pinAnnotation: "true"}})
			container := runContainer(t, pod)
			own, host := nstest.New(t), nstest.New(t)
			own.Veth("eth0", host, "veth0")

			out, err := exec.CommandContext(t.Context(), bed.Programs().Consumer(), "apply",
				filepath.Join(container.Bundle(), "config.json"), own.Ref()).CombinedOutput()
			if err != nil {
				t.Fatalf("consumer: %v: %s", err, out)
			}
			found := shown(t, own.Output("-json", "neigh", "show", "nud", "permanent"))
			if err := checkTrue(pod, found); err != nil {
				t.Error("the consumer's namespace:", err)
			}
			var want map[netip.Addr]string
			if handler == "runsc" {
				if want, err = pod.Copied(); err != nil {
					t.Fatal(err)
				}
			} else {
				want = shown(t, host.Output("-netns", filepath.Base(pod.NetNS), "-json", "neigh", "show", "nud", "permanent"))
			}
			if diff := cmp.Diff(want, found, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("neighbors (-%s's +the consumer's):\n%s", handler, diff)
			}
		})
	}
}

// shown reads what `ip -json neigh` shows: permanent entries of eth0.
func shown(t *testing.T, output string) map[netip.Addr]string {
	t.Helper()
	var list []struct {
		Dst    netip.Addr `json:"dst"`
		Dev    string     `json:"dev"`
		LLAddr string     `json:"lladdr"`
		State  []string   `json:"state"`
	}
	if err := json.Unmarshal([]byte(output), &list); err != nil {
		t.Fatalf("parse %q: %v", output, err)
	}
	found := map[netip.Addr]string{}
	for _, n := range list {
		if n.Dev != "eth0" || !slices.Equal(n.State, []string{"PERMANENT"}) {
			t.Errorf("entry %+v, want a permanent one of eth0", n)
		}
		found[n.Dst] = n.LLAddr
	}
	return found
}
