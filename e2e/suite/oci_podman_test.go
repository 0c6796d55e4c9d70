// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/enclosure"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// podmanGateways are those of podman's network.
var podmanGateways = []netip.Addr{netip.MustParseAddr("10.95.0.1"), netip.MustParseAddr("fd95::1")}

// podmanRuntimes is where the real runtimes are: podman gives some commands of a runtime no PATH.
func podmanRuntimes() string {
	return fmt.Sprintf("runtimes:\n  neighpin-runsc: %s/runsc\n  neighpin-runc: runc\n", bed.Programs().GVisor)
}

// startPodman readies podman, with the wrapper installed.
func startPodman(t *testing.T, config string) *node.Podman {
	t.Helper()
	installWrapper(t, config)
	p, err := bed.StartPodman(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// podman runs a command of podman's that must do.
func podman(t *testing.T, p *node.Podman, args ...string) string {
	t.Helper()
	out, err := p.Do(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// runPodman runs an idle container and removes it at the end of the test; its record must go with it.
func runPodman(t *testing.T, p *node.Podman, flags ...string) (id string) {
	t.Helper()
	id = podman(t, p, p.Create("run", append(flags, "--detach")...)...)
	t.Cleanup(func() {
		if _, err := p.Do(context.Background(), "rm", "--force", "--time", "0", id); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(bed.Said(node.StateDir).RecordFile(id)); err == nil {
			t.Errorf("the record of %s outlives it", id)
		}
	})
	return id
}

// portMAC is the truth: that of the container's own port of the bridge.
func portMAC(t *testing.T, neighbors []node.Neighbor) map[netip.Addr]string {
	t.Helper()
	ports, err := os.ReadDir("/sys/class/net/np-podman/brif")
	if err != nil || len(ports) != 1 {
		t.Fatalf("ports of podman's bridge: %v, %v, want one", ports, err)
	}
	link, err := net.InterfaceByName(ports[0].Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range neighbors {
		if n.Source != "port" {
			t.Errorf("source %s, want port", n.Source)
		}
	}
	truth := map[netip.Addr]string{}
	for _, gateway := range podmanGateways {
		truth[gateway] = link.HardwareAddr.String()
	}
	return truth
}

// podmanRecord is the record of one of podman's containers.
func podmanRecord(t *testing.T, id string) node.Sandbox {
	t.Helper()
	record, err := bed.Said(node.StateDir).Record(&node.Pod{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func same(a, b map[netip.Addr]string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// connected checks that the container reaches its gateways.
func connected(t *testing.T, p *node.Podman, id string) {
	t.Helper()
	args := []string{"exec", id, "/workload", "connect"}
	for _, gateway := range podmanGateways {
		args = append(args, netip.AddrPortFrom(gateway, node.Port).String())
	}
	if out := podman(t, p, args...); strings.Count(out, " connected ") != len(podmanGateways) {
		t.Errorf("connected:\n%s", out)
	}
}

func TestPodmanWithRuncBehindTheWrapper(t *testing.T) {
	keepLogs(t)
	p := startPodman(t, podmanRuntimes())
	id := runPodman(t, p, "--runtime", node.WrapperRunc)
	checkPodmanKernel(t, p, id)
	annotations, err := podmanAnnotations(t, p, id)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := parseAnnotation(annotations[annotationKey]); err != nil || len(a.Neighbors) != len(podmanGateways) {
		t.Errorf("annotation %+v, %v", a, err)
	}
}

// checkPodmanKernel looks at a container on the kernel's stack.
func checkPodmanKernel(t *testing.T, p *node.Podman, id string) {
	t.Helper()
	record := podmanRecord(t, id)
	pinned, err := permanentIn(record.NetNS.Path)
	if err != nil {
		t.Fatal(err)
	}
	if truth := portMAC(t, record.Neighbors); !same(pinned, truth) {
		t.Errorf("pinned %v, want %v", pinned, truth)
	}
	connected(t, p, id)
	// Exit codes come through the wrapper.
	if result, err := p.Run(t.Context(), "exec", id, "/workload", "frobnicate"); err != nil || result.Code != 2 {
		t.Errorf("a program that exits with 2: %+v, %v", result, err)
	}
	// The workload ends at SIGTERM, with 0.
	podman(t, p, "stop", "--time", "20", id)
	if code, err := p.Inspect(t.Context(), id, "{{.State.ExitCode}}"); err != nil || code != "0" {
		t.Errorf("after SIGTERM: exit code %s, %v", code, err)
	}
}

// podmanAnnotations are those of the container's config.json.
func podmanAnnotations(t *testing.T, p *node.Podman, id string) (map[string]string, error) {
	t.Helper()
	path, err := p.Inspect(t.Context(), id, "{{.OCIConfigPath}}")
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var config struct {
		Annotations map[string]string `json:"annotations"`
	}
	err = json.Unmarshal(data, &config)
	return config.Annotations, err
}

func TestPodmanWithGVisorBehindTheWrapper(t *testing.T) {
	keepLogs(t)
	p := startPodman(t, podmanRuntimes())
	logs := filepath.Join(bed.LogDir(), "podman")
	for _, flag := range []string{"platform=systrap", "ignore-cgroups=true", "debug", "debug-log=" + logs + "/%COMMAND%.log"} {
		p.Flags = append(p.Flags, "--runtime-flag", flag)
	}
	p.Flags = append(p.Flags, "--runtime", node.WrapperRunsc)
	id := runPodman(t, p)
	copied, err := node.CopiedBy(filepath.Join(logs, "start.log"))
	if err != nil {
		t.Fatal(err)
	}
	if truth := portMAC(t, podmanRecord(t, id).Neighbors); !same(copied, truth) {
		t.Errorf("runsc copied %v, want %v", copied, truth)
	}
	connected(t, p, id)
}

// Refused, podman says why; otherwise nothing of it runs.
func TestPodmanShowsARefusal(t *testing.T) {
	keepLogs(t)
	p := startPodman(t, enforced+podmanRuntimes())
	p.Flags = append(p.Flags, "--runtime", node.WrapperRunc)
	if err := os.WriteFile(filepath.Join(node.PodmanNetworks, "beyond.conflist"), []byte(`{"cniVersion": "0.4.0", "name": "beyond", "plugins": [{
		"type": "bridge", "bridge": "np-beyond", "ipam": {"type": "host-local", "dataDir": "/run/np/podman/ipam",
		"ranges": [[{"subnet": "10.95.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	result, err := p.Run(t.Context(), p.Create("run", "--rm", "--network", "beyond")...)
	if err != nil || result.Code == 0 {
		t.Errorf("a container whose gateway is beyond the bridge: %+v, %v", result, err)
	}
	for _, part := range []string{"neighpin: container", "gateway 10.95.0.1 on eth0 is not pinned", "RouterBeyondBridge"} {
		if !strings.Contains(result.Stderr, part) {
			t.Errorf("podman says %q, want %q in it", result.Stderr, part)
		}
	}
}

// The hook of deploy, with the real runc and no wrapper.
func TestPodmanWithTheHook(t *testing.T) {
	keepLogs(t)
	p := startPodman(t, "")
	data, err := os.ReadFile("../../deploy/oci/hooks.d/50-neighpin.json")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), "/usr/local/bin/neighpin", bed.Programs().Neighpin(), 1)
	if text == string(data) {
		t.Fatal("the hook of deploy is installed somewhere else")
	}
	hooks := t.TempDir()
	if err := os.WriteFile(filepath.Join(hooks, "50-neighpin.json"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p.Flags = append(p.Flags, "--runtime", "runc", "--hooks-dir", hooks)
	checkPodmanKernel(t, p, runPodman(t, p))

	// The control: without the hook nothing is pinned.
	p.Flags = p.Flags[:len(p.Flags)-2]
	plain := runPodman(t, p)
	path, err := p.Inspect(t.Context(), plain, "{{.NetworkSettings.SandboxKey}}")
	if err != nil {
		t.Fatal(err)
	}
	if pinned, err := permanentIn(path); err != nil || len(pinned) != 0 {
		t.Errorf("pinned without the hook: %v, %v", pinned, err)
	}
}

// A pod's infra container is pinned for, and those that join it are not: podman names the pod as their sandbox, which no
// record is of, but they have the namespace of one.
func TestPodmanPodBehindTheWrapper(t *testing.T) {
	keepLogs(t)
	p := startPodman(t, podmanRuntimes())
	p.Flags = append(p.Flags, "--runtime", node.WrapperRunc)
	pod := podman(t, p, "pod", "create", "--cgroup-parent", enclosure.CgroupParent(), "--infra-image", node.Image)
	t.Cleanup(func() {
		if _, err := p.Do(context.Background(), "pod", "rm", "--force", "--time", "0", pod); err != nil {
			t.Error(err)
		}
		if records, err := bed.Said(node.StateDir).Records(); err != nil || len(records) != 0 {
			t.Errorf("records left behind: %v, %v", records, err)
		}
	})
	podman(t, p, "pod", "start", pod)
	record := podmanRecord(t, podman(t, p, "pod", "inspect", "--format", "{{.InfraContainerID}}", pod))
	pinned, err := permanentIn(record.NetNS.Path)
	if err != nil {
		t.Fatal(err)
	}
	if truth := portMAC(t, record.Neighbors); !same(pinned, truth) {
		t.Errorf("pinned %v, want %v", pinned, truth)
	}
	id := podman(t, p, "run", "--detach", "--pull", "never", "--pod", pod, node.Image)
	annotations, err := podmanAnnotations(t, p, id)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := parseAnnotation(annotations[annotationKey]); err != nil || a.Cookie != record.NetNS.Cookie {
		t.Errorf("annotation %+v, %v", a, err)
	}
	connected(t, p, id)
	if records, err := bed.Said(node.StateDir).Records(); err != nil || len(records) != 1 {
		t.Errorf("records %v, %v, want that of the infra container", records, err)
	}
}
