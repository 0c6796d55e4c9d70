// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/node"
)

// namespaceCommands all refuse what is not a sandbox's namespace.
var namespaceCommands = []string{"inspect", "pin", "unpin", "verify"}

// report is what scripts read from the namespace commands.
type report struct {
	NetNS struct {
		Path   string `json:"path"`
		Cookie uint64 `json:"cookie"`
		Host   bool   `json:"host"`
	} `json:"netns"`
	Neighbors   []node.Neighbor `json:"neighbors"`
	Skipped     []node.Skipped  `json:"skipped"`
	Result      string          `json:"result"`
	Differences []struct {
		Dst string `json:"dst"`
	} `json:"differences"`
}

// command runs a namespace command, which must end with the exit code that is wanted, and returns what it printed.
func command(t *testing.T, want int, name, path string) report {
	t.Helper()
	var r report
	out, code, err := bed.CLI(t.Context(), name, "--netns", path, "-o", "json")
	if code != want {
		t.Fatalf("%s --netns %s: exit code %d, want %d: %v\n%s", name, path, code, want, err, out)
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%s --netns %s: %v\n%s", name, path, err, out)
	}
	return r
}

// refused says whether every namespace command ends with 1 and one sentence on stderr that holds why, and prints nothing.
func refused(t *testing.T, path, why string) {
	t.Helper()
	for _, name := range namespaceCommands {
		out, code, err := bed.CLI(t.Context(), name, "--netns", path, "-o", "json")
		if code != 1 || out != "" || !strings.Contains(fmt.Sprint(err), why) {
			t.Errorf("%s --netns %s: exit code %d, %v, output %q; want 1 and %q", name, path, code, err, out, why)
		}
	}
}

// entries are the permanent neighbors of a namespace of /run/netns, or of this one if name is empty, as iproute2 shows them.
func entries(t *testing.T, name string) map[netip.Addr]string {
	t.Helper()
	var args []string
	if name != "" {
		args = []string{"-n", name}
	}
	found, err := permanentEntries(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// permanentEntries asks iproute2, in the calling thread's namespace unless args say another.
func permanentEntries(ctx context.Context, args ...string) (map[netip.Addr]string, error) {
	out, err := exec.CommandContext(ctx, "ip", append(args, "-j", "neigh", "show", "nud", "permanent")...).Output()
	if err != nil {
		return nil, fmt.Errorf("list neighbors: %w", err)
	}
	var list []struct {
		Dst    netip.Addr `json:"dst"`
		LLAddr string     `json:"lladdr"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("list neighbors: %w\n%s", err, out)
	}
	found := map[netip.Addr]string{}
	for _, entry := range list {
		found[entry.Dst] = entry.LLAddr
	}
	return found, nil
}

// ip runs iproute2's ip.
func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// bindNamespace mounts a namespace on a path until the end of the test.
func bindNamespace(t *testing.T, source, path string) {
	t.Helper()
	if file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600); err == nil {
		file.Close()
		t.Cleanup(func() { _ = os.Remove(path) })
	} else if !os.IsExist(err) {
		t.Fatal(err)
	}
	mount(t, source, path, "", unix.MS_BIND, "")
}

// hostGateway gives the node's own namespace a route through a gateway that could be pinned there.
func hostGateway(t *testing.T) {
	t.Helper()
	ip(t, "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	t.Cleanup(func() { ip(t, "link", "delete", "up0") })
	ip(t, "address", "add", "192.0.2.2/24", "dev", "up0")
	ip(t, "link", "set", "up0", "up")
	ip(t, "link", "set", "up1", "up")
	ip(t, "route", "add", "203.0.113.0/24", "via", "192.0.2.1", "dev", "up0")
}

func TestTheHostsNamespaceIsRefusedHoweverItIsReached(t *testing.T) {
	keepLogs(t)
	hostGateway(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/proc/1/ns/net", link); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil { // which containerd makes with the first pod
		t.Fatal(err)
	}
	mounted := "/run/netns/cni-00000000-0000-0000-0000-000000000001"
	bindNamespace(t, "/proc/self/ns/net", mounted)
	for _, path := range []string{"/proc/1/ns/net", "/proc/self/ns/net", link, mounted} {
		refused(t, path, "it is the host's own network namespace")
	}
	if left := entries(t, ""); len(left) != 0 {
		t.Errorf("the host has permanent neighbors: %v", left)
	}
}

func TestWhatIsNoNamespaceIsRefused(t *testing.T) {
	keepLogs(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pod, err := bed.RunPod(t.Context(), node.PodSpec{Handler: "runc"})
	if err != nil {
		t.Fatal(err)
	}
	if err := pod.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused(t, file, "not a network namespace")
	refused(t, "/proc/self/ns/uts", "not a network namespace")
	refused(t, "/dev/zero", "not a network namespace")
	refused(t, pod.NetNS, "no such file or directory") // vanished
}

// A pod whose namespace's file has become the host's: by the names all is well, only the cookie tells.
func TestTheDaemonRefusesTheHostsNamespaceUnderAPodsName(t *testing.T) {
	keepLogs(t)
	hostGateway(t)
	wish := map[string]string{pinAnnotation: "true"}
	pod := runPod(t, node.PodSpec{Handler: "runc", Annotations: wish})
	bindNamespace(t, "/proc/self/ns/net", pod.NetNS)
	d := startDaemon(t)
	if annotations, err := runContainer(t, pod).Annotations(); err != nil || annotations[annotationKey] != "" {
		t.Errorf("annotation %q, %v; want none", annotations[annotationKey], err)
	}
	if _, err := d.Record(pod); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("record: %v, want none", err)
	}
	if left := entries(t, ""); len(left) != 0 {
		t.Errorf("the host has permanent neighbors: %v", left)
	}
	other := runPod(t, node.PodSpec{Handler: "runc", Annotations: wish})
	runContainer(t, other)
	sandbox, err := started(t.Context(), d, other)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkRecord(other, sandbox); err != nil {
		t.Errorf("the next pod: %v", err)
	}
}

// The life of pins made by hand, in a pod that no daemon looks after.
func TestInspectPinVerifyUnpinByHand(t *testing.T) {
	keepLogs(t)
	pod := runPod(t, node.PodSpec{Handler: "runc"})
	name := filepath.Base(pod.NetNS)

	seen := command(t, 0, "inspect", pod.NetNS)
	if len(seen.Neighbors) != len(gateways) || len(seen.Skipped) != 0 || seen.NetNS.Host || seen.NetNS.Cookie == 0 {
		t.Errorf("inspect: %+v, want both gateways", seen)
	}
	if found := entries(t, name); len(found) != 0 {
		t.Fatalf("inspect changed something: %v", found)
	}
	if r := command(t, 3, "verify", pod.NetNS); r.Result != "different" || len(r.Differences) != len(gateways) {
		t.Errorf("verify before the pin: %+v", r)
	}
	if r := command(t, 0, "pin", pod.NetNS); len(r.Neighbors) != len(gateways) {
		t.Errorf("pin: %+v, want both gateways", r)
	}
	if err := checkTrue(pod, entries(t, name)); err != nil {
		t.Error(err)
	}
	if r := command(t, 0, "verify", pod.NetNS); r.Result != "ok" {
		t.Errorf("verify after the pin: %+v", r)
	}
	if r := command(t, 0, "unpin", pod.NetNS); len(r.Neighbors) != len(gateways) {
		t.Errorf("unpin: %+v, want both gateways", r)
	}
	if found := entries(t, name); len(found) != 0 {
		t.Errorf("unpin left %v", found)
	}
}

// Entries of others stay, however often.
func TestUnpinLeavesTheCNIsEntries(t *testing.T) {
	keepLogs(t)
	pod := runPod(t, node.PodSpec{Handler: "runc", Namespace: "aws"})
	before := entries(t, filepath.Base(pod.NetNS))
	if len(before) != len(gateways) {
		t.Fatalf("the CNI made %v", before)
	}
	command(t, 0, "pin", pod.NetNS)
	if r := command(t, 0, "unpin", pod.NetNS); len(r.Neighbors) != 0 {
		t.Errorf("unpin released %+v, none of which is ours", r.Neighbors)
	}
	if after := entries(t, filepath.Base(pod.NetNS)); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("%v, want the CNI's %v", after, before)
	}
}

func TestVerifyAndStatusTellWhatBecameOfAPod(t *testing.T) {
	keepLogs(t)
	status := func(want int, args ...string) {
		t.Helper()
		if out, code, err := bed.CLI(t.Context(), append([]string{"status"}, args...)...); code != want {
			t.Errorf("status %v: exit code %d, want %d: %v\n%s", args, code, want, err, out)
		}
	}
	status(1) // nobody answers
	status(2, "-o", "xml")
	late := runPod(t, node.PodSpec{Handler: "runsc"})
	d := startDaemon(t)
	if _, err := started(t.Context(), d, late); err != nil {
		t.Fatal(err)
	}
	status(3) // a pod from before
	status(0, "--ready")
	if r := command(t, 3, "verify", late.NetNS); r.Result != "handedOver" {
		t.Errorf("gVisor without pins: %+v", r)
	}
	if err := late.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	settled(t, d, nil)

	gvisor, kernel := runBoth(t, d)
	status(0)
	if r := command(t, 0, "verify", gvisor.NetNS); r.Result != "handedOver" {
		t.Errorf("gVisor with pins: %+v", r)
	}
	if r := command(t, 0, "verify", kernel.NetNS); r.Result != "ok" {
		t.Errorf("runc with pins: %+v", r)
	}
	if err := d.Stop(t.Context()); err != nil { // it would repair what happens now
		t.Fatal(err)
	}
	ip(t, "-n", filepath.Base(kernel.NetNS), "neighbor", "delete", node.Gateway4.String(), "dev", "eth0")
	if r := command(t, 3, "verify", kernel.NetNS); r.Result != "different" || len(r.Differences) != 1 || r.Differences[0].Dst != node.Gateway4.String() {
		t.Errorf("runc without one of its pins: %+v", r)
	}
}
