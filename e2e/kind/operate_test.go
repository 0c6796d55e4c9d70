// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// testContainerdRestart starts containerd again under pods and neighpin. The validator stays on for the steps after.
func testContainerdRestart(t *testing.T, b *bed) {
	node := b.nodes[1]
	before := b.records(t)
	agent := b.agentOf(t, node)
	start := time.Now()
	// containerd's own check that the plugins which a pod's annotation names are there.
	validator, err := os.ReadFile(filepath.Join(b.deploy, "containerd", "nri-validator.toml"))
	if err != nil {
		t.Fatal(err)
	}
	b.dropIn(t, node, "nri-validator.toml", string(validator))
	// A pod that comes before neighpin has found containerd again may be late, and is not annotated.
	b.await(t, "neighpin to have found the new containerd", func() error {
		_, err := b.inAgent(node, "status", "--ready")
		return err
	})
	p := b.run(t, wish{name: "after-containerd", runtimeClass: b.runtimeClass, node: node})
	b.provePinned(t, p)
	t.Logf("containerd restarted, and the next pod pinned, within %s", round(time.Since(start)))
	if now := b.agentOf(t, node); now.Metadata.UID != agent.Metadata.UID || now.container().RestartCount != agent.container().RestartCount {
		t.Errorf("neighpin was started again with containerd: it is %s with %d restarts, was %s with %d", now, now.container().RestartCount, agent, agent.container().RestartCount)
	}
	b.kept(t, before)
	b.remove(t, p)
}

const requiredPlugins = "required-plugins.noderesource.dev"

// testReinstall takes the DaemonSet away and installs it again, with enforce. Pods keep their pins meanwhile. A pod that comes
// meanwhile starts unpinned; where it requires neighpin, containerd holds its container back as long as neighpin is away. What
// has started so is reported as late.
func testReinstall(t *testing.T, b *bed) {
	node := b.nodes[1]
	keeping := b.run(t, wish{name: "keeping", node: node, annotations: map[string]string{"neighpin.io/pin": "true"}})
	b.settled(t, keeping)
	entries := b.permanent(t, keeping)
	before := b.records(t)
	b.kubectl(t, "delete", "daemonset", "--namespace", app, app, "--cascade=foreground", "--timeout="+patience.String())
	if now := b.permanent(t, keeping); now != entries || strings.Count(now, "PERMANENT") != 2 {
		t.Errorf("%s: without neighpin its permanent entries are\n%s\nthey were\n%s", keeping, now, entries)
	}
	meanwhile := b.run(t, wish{name: "meanwhile", runtimeClass: b.runtimeClass, node: node})
	b.checkHeard(t, meanwhile)
	requiring := wish{name: "requiring", runtimeClass: b.runtimeClass, node: node, annotations: map[string]string{requiredPlugins: `["neighpin"]`}}
	b.apply(t, b.manifest(requiring))
	b.await(t, "containerd to hold back the container of a pod that requires neighpin", func() error {
		wait := b.pod(t, home, requiring.name).container().State.Waiting
		if wait == nil || !strings.Contains(wait.Message, `required plugin "neighpin" not present`) {
			return fmt.Errorf("it is %+v", wait)
		}
		return nil
	})
	b.exceptUnpinned(t)
	b.install(t, enforcing())
	b.kept(t, before)
	// The gap that deploy/README.md tells of: its sandbox was there first.
	held := b.ready(t, requiring)
	for _, p := range []pod{meanwhile, held} {
		b.await(t, "neighpin's verdict on "+p.String(), func() error {
			all, err := b.status()
			record := all[home+"/"+p.Metadata.Name]
			if verdict := record.Timing.Verdict; err != nil || verdict == "" || verdict == "pending" {
				return errors.Join(err, fmt.Errorf("its record is %+v", record))
			} else if verdict != "late" {
				t.Errorf("%s: its sandbox started without neighpin, and the verdict is not late, but %+v", p, record)
			}
			return nil
		})
	}
	b.remove(t, keeping, meanwhile, held)
	p := b.run(t, wish{name: "requiring-present", runtimeClass: b.runtimeClass, node: node, annotations: requiring.annotations})
	b.provePinned(t, p)
	b.remove(t, p)
}

// nowhere is a network whose gateway is nobody, so that nothing true can be pinned.
const nowhere = `{"cniVersion": "1.0.0", "name": "nowhere", "plugins": [{"type": "bridge", "bridge": "nowhere0", "isGateway": true,
  "ipam": {"type": "host-local", "dataDir": "/run/cni-nowhere", "ranges": [[{"subnet": "10.99.0.0/24"}]],
  "routes": [{"dst": "0.0.0.0/0", "gw": "10.99.0.77"}]}}]}
`

// enforcing is the configuration from testReinstall on.
func enforcing() object { return with(config(), object{"enforce": true}) }

// testEnforce has a node give pods a gateway that nobody is, with enforce set.
func testEnforce(t *testing.T, b *bed) {
	node := b.nodes[1]
	const file = "/etc/cni/net.d/05-nowhere.conflist"
	if _, err := b.own.Node(b.ctx, node, strings.NewReader(nowhere), "sh", "-euc", "cat >"+file+".new; mv "+file+".new "+file); err != nil {
		t.Fatal(err)
	}
	refused := wish{name: "refused", runtimeClass: b.runtimeClass, node: node}
	b.apply(t, b.manifest(refused))
	var said event
	b.await(t, "the pod without a true gateway to be refused", func() error {
		events, err := b.eventsOf("refused")
		at := slices.IndexFunc(events, func(e event) bool {
			return strings.HasPrefix(e.Reason, "Failed") && strings.Contains(e.Message, "neighpin") && strings.Contains(e.Message, "10.99.0.77")
		})
		if err != nil || at < 0 {
			return errors.Join(err, fmt.Errorf("its events are %v", events))
		}
		said = events[at]
		return nil
	})
	t.Logf("kubectl says: %s: %s", said.Reason, said.Message)
	if p := b.pod(t, home, "refused"); p.container().Ready {
		t.Errorf("%s runs, although enforce is set and its gateway is nobody", p)
	}
	other := b.run(t, wish{name: "not-refused", node: node})
	if ip := other.Status.PodIPs[0].IP; !strings.HasPrefix(ip, "10.99.0.") {
		t.Errorf("%s has the address %s: it is not in the network without a gateway", other, ip)
	}
	b.remove(t, other)
	b.onNode(t, node, "rm "+file)
	// The kubelet tries again, and now there is a gateway.
	p := b.ready(t, refused)
	b.provePinned(t, p)
	b.remove(t, p)
}

// testWithoutNRI turns NRI off on a node, and takes its folder away.
func testWithoutNRI(t *testing.T, b *bed) {
	node := b.nodes[1]
	old := b.agentOf(t, node)
	b.dropIn(t, node, "nri.toml", "version = 3\n[plugins.\"io.containerd.nri.v1.nri\"]\n  disable = true\n")
	b.onNode(t, node, "rm -rf /var/run/nri")
	b.kubectl(t, "delete", "pod", "--namespace", app, old.Metadata.Name, "--timeout="+patience.String())
	var p pod
	b.await(t, "the new neighpin to say what is missing", func() error {
		all, err := b.pods(app, "--selector", "app.kubernetes.io/name=neighpin", "--field-selector", "status.phase=Running,spec.nodeName="+node)
		if err != nil || len(all) != 1 {
			return fmt.Errorf("there are %d on the node: %w", len(all), err)
		}
		p = all[0]
		log, err := b.kube.Output(b.ctx, "logs", "--namespace", app, p.Metadata.Name)
		if err != nil || !strings.Contains(log, "nri.sock") {
			return errors.Join(err, fmt.Errorf("its log is\n%s", log))
		}
		for line := range strings.Lines(log) {
			if strings.Contains(line, "nri.sock") {
				t.Logf("%s says: %s", p, strings.TrimSpace(line))
				break
			}
		}
		return nil
	})
	b.await(t, "the startup probe to pass", func() error {
		started, err := b.kube.Output(b.ctx, "get", "pod", "--namespace", app, p.Metadata.Name, "--output", "jsonpath={.status.containerStatuses[0].started}")
		if err != nil || started != "true" {
			return errors.Join(err, fmt.Errorf("started is %q", started))
		}
		return nil
	})
	b.await(t, "the readiness probe to fail", func() error {
		told := b.kubectl(t, "get", "events", "--namespace", app, "--field-selector", "reason=Unhealthy,involvedObject.name="+p.Metadata.Name, "--output", "jsonpath={.items[*].message}")
		if !strings.Contains(told, "Readiness") {
			return fmt.Errorf("the kubelet has told %q of it", told)
		}
		return nil
	})
	if now := b.pod(t, app, p.Metadata.Name).container(); now.Ready || now.RestartCount != 0 {
		t.Errorf("%s: ready %t with %d restarts, want false and none", p, now.Ready, now.RestartCount)
	}
	b.dropIn(t, node, "nri.toml", "")
	if now := b.agentOf(t, node); now.Metadata.UID != p.Metadata.UID || now.container().RestartCount != 0 {
		t.Errorf("with NRI back, neighpin is %s with %d restarts, want %s with none", now, now.container().RestartCount, p)
	}
}

// agentOf is a node's neighpin, which must be ready.
func (b *bed) agentOf(t *testing.T, node string) pod {
	t.Helper()
	var p pod
	b.await(t, "neighpin on node "+node, func() (err error) {
		p, err = b.agent(node)
		return err
	})
	return p
}

// dropIn writes a file into the folder that containerd's configuration includes, or removes it where text is empty, and
// starts containerd again.
func (b *bed) dropIn(t *testing.T, node, name, text string) {
	t.Helper()
	script := "mkdir -p /etc/containerd/conf.d; rm -f /etc/containerd/conf.d/" + name
	if text != "" {
		script += "; cat >/etc/containerd/conf.d/" + name
	}
	if _, err := b.own.Node(b.ctx, node, strings.NewReader(text), "sh", "-euc", script+"; systemctl restart containerd"); err != nil {
		t.Fatal(err)
	}
}
