// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testAdmission applies the examples to the API server: the one wants required-plugins of sandboxed pods, the other gives it
// to those that say nothing.
func testAdmission(t *testing.T, b *bed) {
	wants, gives := filepath.Join(b.deploy, "examples", "require-neighpin.yaml"), filepath.Join(b.deploy, "examples", "add-required-plugin.yaml")
	b.kubectl(t, "apply", "--filename", wants)
	bare := wish{name: "bare", runtimeClass: b.runtimeClass, node: b.nodes[0]}
	var refusal error
	// A policy is in force a moment after it was taken.
	b.await(t, "the API server to refuse a sandboxed pod without the annotation", func() error {
		refusal = b.tryApply(b.manifest(bare))
		switch {
		case refusal == nil:
			_, err := b.kube.Output(b.ctx, "delete", "pod", "--namespace", home, bare.name, "--timeout="+patience.String())
			return errors.Join(err, errors.New("it was admitted"))
		case !strings.Contains(refusal.Error(), requiredPlugins):
			return refusal
		}
		return nil
	})
	t.Logf("kubectl says: %s", strings.TrimSpace(tail(refusal.Error())))
	p := b.run(t, wish{name: "requiring", runtimeClass: b.runtimeClass, node: b.nodes[0], annotations: map[string]string{requiredPlugins: `["neighpin"]`}})
	b.provePinned(t, p)
	// The status is another way to the annotations.
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"%s/pod":"[]"}}}`, requiredPlugins)
	if _, err := b.kube.Output(b.ctx, "patch", "pod", "--namespace", home, p.Metadata.Name, "--subresource=status", "--type=merge", "--patch", patch); err == nil || !strings.Contains(err.Error(), "may not change") {
		t.Errorf("what is required of %s was to be changed by way of its status: %v", p, err)
	}
	plain := b.run(t, wish{name: "plain", node: b.nodes[0]})
	b.kubectl(t, "apply", "--filename", gives)
	given := b.run(t, bare)
	if got := given.Metadata.Annotations[requiredPlugins]; got != `["neighpin"]` {
		t.Errorf("%s was given %s: %q", given, requiredPlugins, got)
	}
	b.provePinned(t, given)
	b.remove(t, p, plain, given)
	b.kubectl(t, "delete", "--filename", wants, "--filename", gives)
}

// testUninstall removes neighpin and looks for what is left in the cluster. Pods with pins go on running.
func testUninstall(t *testing.T, b *bed) {
	for _, node := range b.nodes {
		b.settled(t, b.run(t, remaining(node)))
	}
	if err := b.installer.uninstall(b); err != nil {
		t.Fatal(err)
	}
	kinds := "clusterroles,clusterrolebindings,namespaces,priorityclasses,validatingadmissionpolicies,validatingadmissionpolicybindings"
	for name := range strings.Lines(b.kubectl(t, "get", kinds, "--output", "name")) {
		if name = strings.TrimSpace(name); strings.Contains(name, app) && name != "namespace/"+home && name != "namespace/"+shunned {
			t.Errorf("uninstalled by %s, the cluster still has %s", b.installer, name)
		}
	}
	left := b.kubectl(t, "get", "daemonsets,pods,configmaps,serviceaccounts,roles,rolebindings,secrets", "--all-namespaces", "--selector", "app.kubernetes.io/name=neighpin", "--output", "name")
	if left != "" {
		t.Errorf("uninstalled by %s, the cluster still has %s", b.installer, left)
	}
}

// remaining is a pod of the node's kernel that asks to be pinned.
func remaining(node string) wish {
	return wish{name: "remaining-" + node, node: node, annotations: map[string]string{"neighpin.io/pin": "true"}}
}

// testUnpin takes the pins back on each node, and then the pods.
func testUnpin(t *testing.T, b *bed) {
	for _, node := range b.nodes {
		b.unpin(t, node, b.pod(t, home, remaining(node).name))
	}
	b.kubectl(t, "delete", "namespace", home, shunned, "--timeout="+patience.String())
	for _, node := range b.nodes {
		b.await(t, "the network namespaces of node "+node+" to go with their pods", func() error {
			left, err := b.own.Node(b.ctx, node, nil, "sh", "-euc", "ls /var/run/netns; pgrep -ax neighpin || true")
			if err == nil && left != "" {
				err = fmt.Errorf("there are\n%s", left)
			}
			return err
		})
	}
}

// unpin does on a node what deploy/README.md says of removing, under a pod that goes on running.
func (b *bed) unpin(t *testing.T, node string, p pod) {
	t.Helper()
	if entries := b.permanent(t, p); strings.Count(entries, "PERMANENT") != 2 {
		t.Errorf("%s: uninstalled, its permanent entries are\n%s\nwant its two gateways", p, entries)
	}
	binary, err := os.Open(b.neighpin)
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	said, err := b.own.Node(b.ctx, node, binary, "sh", "-euc", "cat >/root/neighpin; chmod +x /root/neighpin; /root/neighpin unpin --all; rm /root/neighpin")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("node %s: neighpin unpin --all: %s", node, said)
	if entries := b.permanent(t, p); entries != "" {
		t.Errorf("%s: after unpin --all it still has\n%s", p, entries)
	}
	// The empty file that records are locked by stays until the node's next boot: whoever waits for it must find the same.
	if files := b.onNode(t, node, "find /run/neighpin ! -type d ! -name records.lock"); files != "" {
		t.Errorf("node %s: after unpin --all there are still\n%s", node, files)
	}
}
