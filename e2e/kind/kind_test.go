// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

const (
	annotationKey = "io.neighpin.neighbors"
	manifests     = "/kind/deploy"
	testVersion   = "v0.0.0-e2e"

	// startLogs prints what all gVisor sandboxes logged when they started.
	startLogs = "cat /var/log/runsc/*/start.log"
)

// TestKubernetes takes a user's way: build the image, apply the manifests, run pods.
func TestKubernetes(t *testing.T) {
	settings := machineSettings(t)
	b := newBed(t)
	if err := b.cluster.Copy(b.ctx, filepath.Join(b.materials.Checkout, "deploy"), manifests); err != nil {
		t.Fatal(err)
	}

	steps := []struct {
		name string
		run  func(*testing.T, *bed)
	}{
		{"image of the Dockerfile holds the binary and the license", testImage},
		{"gVisor pod starts unpinned without neighpin", testControl},
		{"manifests roll out as they are", testRollOut},
		{"pod from before is reported", testReported},
		{"process has three capabilities and no way to more", testPrivileges},
		{"gVisor pod is pinned in time and annotated", testSandboxed},
		{"pod without RuntimeClass is untouched, and pinned if it asks", testPlain},
		{"changed host end is followed, or reported where the runtime holds a copy", testGuard},
		{"rolling update keeps what is known and serves new pods", testRollingUpdate},
		{"records go with their pods", testRemoval},
	}
	for _, step := range steps {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, b) }) {
			// Every step stands on those before it.
			return
		}
	}
	if now := machineSettings(t); !reflect.DeepEqual(now, settings) {
		t.Errorf("kernel settings of the machine are now %v, were %v", now, settings)
	}
}

// machineSettings are those of the whole kernel that systemd and the kubelet like to change.
func machineSettings(t *testing.T) map[string]string {
	t.Helper()
	settings := map[string]string{}
	for _, name := range []string{"fs/file-max", "fs/nr_open", "kernel/core_pattern", "kernel/panic", "kernel/panic_on_oops", "kernel/pid_max", "vm/overcommit_memory", "vm/panic_on_oom"} {
		value, err := os.ReadFile(filepath.Join("/proc/sys", name))
		if err != nil {
			t.Fatal(err)
		}
		settings[name] = strings.TrimSpace(string(value))
	}
	return settings
}

// productImage is the image that the manifests name.
func productImage(t *testing.T, b *bed) string {
	t.Helper()
	found := regexp.MustCompile(`image: (\S+)`).FindAllStringSubmatch(b.kubectl(t, "kustomize", manifests+"/base"), -1)
	if len(found) != 1 {
		t.Fatalf("manifests name the images %q, want one", found)
	}
	return found[0][1]
}

func testImage(t *testing.T, b *bed) {
	reference := productImage(t, b)
	if err := ProductImage(b.ctx, b.docker, b.materials, reference, testVersion); err != nil {
		t.Fatal(err)
	}
	inspected, err := b.docker.Output(b.ctx, nil, "image", "inspect", "--format", "{{json .Config}}", reference)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Entrypoint, Cmd []string
		Labels          map[string]string
	}
	decode(t, inspected, &config)
	if !slices.Equal(config.Entrypoint, []string{"/neighpin"}) || !slices.Equal(config.Cmd, []string{"plugin"}) {
		t.Errorf("image runs %q %q, want /neighpin plugin", config.Entrypoint, config.Cmd)
	}
	if got := config.Labels["org.opencontainers.image.version"]; got != testVersion {
		t.Errorf("image is labelled version %q, want %q", got, testVersion)
	}
	// Nothing but these two: docker adds the empty files that it mounts over.
	if got, want := imageFiles(t, b, reference), []string{"LICENSE", "neighpin"}; !slices.Equal(got, want) {
		t.Errorf("image holds the files %q, want %q", got, want)
	}
	if err := b.cluster.Load(b.ctx, reference); err != nil {
		t.Fatal(err)
	}
}

// imageFiles lists what is in an image of the daemon's store.
func imageFiles(t *testing.T, b *bed, reference string) []string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "image.tar")
	if _, err := b.docker.Output(b.ctx, nil, "save", "--output", archive, reference); err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	flat := mutate.Extract(image)
	defer flat.Close()
	var files []string
	for reader := tar.NewReader(flat); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(files)
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, header.Name)
	}
}

// copied is what gVisor says, before address and MAC, of each permanent entry that it takes over.
const copied = "Copying a static ARP entry:"

// testControl shows that nobody else pins, hence that the later steps can fail.
func testControl(t *testing.T, b *bed) {
	b.kubectl(t, "apply", "--filename", manifests+"/runtimeclass-gvisor.yaml")
	p := b.run(t, "before", "gvisor", nil)
	if log := b.node(t, startLogs); strings.Contains(log, copied) {
		t.Errorf("gVisor copied entries that neighpin did not make:\n%s", log)
	}
	if text, ok := b.configuration(t, p)[annotationKey]; ok {
		t.Errorf("container has the annotation %s without neighpin: %s", annotationKey, text)
	}
}

func testRollOut(t *testing.T, b *bed) {
	start := time.Now()
	b.kubectl(t, "apply", "--kustomize", manifests+"/base")
	b.kubectl(t, "rollout", "status", "--namespace", "neighpin", "daemonset/neighpin", "--timeout=120s")
	t.Logf("rolled out in %s", time.Since(start).Round(time.Second))
}

// testReported removes the pod of testControl, so that all is well afterwards.
func testReported(t *testing.T, b *bed) {
	if _, err := b.status(); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("neighpin status does not exit with 3 while a pod of a selected handler is not pinned, but says %v", err)
	}
	b.kubectl(t, "delete", "pod", "before", "--grace-period=1", "--timeout=60s")
	err := await.Within(b.ctx, 30*time.Second, "neighpin to forget the pod", func() error {
		_, err := b.status()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func testPrivileges(t *testing.T, b *bed) {
	status := b.node(t, "cat /proc/$(pgrep -x neighpin)/status")
	const netBroadcast, netAdmin, sysAdmin = 1 << 11, 1 << 12, 1 << 21
	want := fmt.Sprintf("%016x", netBroadcast|netAdmin|sysAdmin)
	for field, value := range map[string]string{
		"CapInh": strings.Repeat("0", 16), "CapAmb": strings.Repeat("0", 16),
		"CapPrm": want, "CapEff": want, "CapBnd": want, "NoNewPrivs": "1", "Seccomp": "2",
	} {
		if !regexp.MustCompile(`(?m)^` + field + `:\s+` + value + `$`).MatchString(status) {
			t.Errorf("%s of the process is not %s:\n%s", field, value, status)
		}
	}
}

func testSandboxed(t *testing.T, b *bed) {
	p := b.run(t, "sandboxed", "gvisor", nil)
	record := b.settled(t, p)
	t.Logf("pinned %.1f ms before gVisor took the namespace's addresses", record.Timing.MarginMs)
	if record.Timing.Verdict != "inTime" || record.Handler != "runsc" {
		t.Errorf("handler %q, verdict %q; want runsc, inTime", record.Handler, record.Timing.Verdict)
	}
	checkNeighbors(t, b, p, record.Neighbors)

	// What gVisor says it took over is the proof that the pins reached its own stack.
	log := b.node(t, startLogs)
	for _, n := range record.Neighbors {
		line := fmt.Sprintf("%s %s %s", copied, n.Dst, n.LLAddr)
		if !strings.Contains(log, line) {
			t.Errorf("gVisor's log lacks %q", line)
		}
	}
	checkAnnotation(t, b, p, record.Neighbors)
}

// checkNeighbors compares pins with what the node says of the other end of the pod's link.
func checkNeighbors(t *testing.T, b *bed, p pod, got []neighbor) {
	t.Helper()
	// The ptp plugin gives the host's end of the link the first address of each range, and routes to the pod by it.
	truth := b.node(t, fmt.Sprintf(`cat /sys/class/net/$(ip -oneline route get %s | sed 's/.* dev \([^ ]*\).*/\1/')/address`, p.Status.PodIPs[0].IP))
	var want []neighbor
	for _, gateway := range []string{"10.244.0.1", "fd00:10:244::1"} {
		want = append(want, neighbor{Dst: gateway, Dev: "eth0", LLAddr: truth, Source: "peer"})
	}
	got = slices.Clone(got)
	slices.SortFunc(got, func(a, b neighbor) int { return strings.Compare(a.Dst, b.Dst) })
	for i := range got {
		got[i].State = nil // the kernel's at the time of asking; gVisor takes the entries away
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("pod %s is pinned to %+v, want %+v", p.Metadata.Name, got, want)
	}
}

// checkAnnotation compares the container's annotation with what was pinned.
func checkAnnotation(t *testing.T, b *bed, p pod, pinned []neighbor) {
	t.Helper()
	text, ok := b.configuration(t, p)[annotationKey]
	if !ok {
		t.Fatalf("container of pod %s lacks the annotation %s", p.Metadata.Name, annotationKey)
	}
	var annotation struct {
		Version   int        `json:"version"`
		Cookie    uint64     `json:"cookie"`
		Neighbors []neighbor `json:"neighbors"`
	}
	decode(t, text, &annotation)
	if annotation.Version != 1 || annotation.Cookie == 0 || len(annotation.Neighbors) != len(pinned) {
		t.Fatalf("annotation of pod %s is %s, want version 1, a cookie and %d neighbors", p.Metadata.Name, text, len(pinned))
	}
	for _, n := range pinned {
		n.State = []string{"PERMANENT"}
		if !slices.ContainsFunc(annotation.Neighbors, func(a neighbor) bool { return reflect.DeepEqual(a, n) }) {
			t.Errorf("annotation of pod %s lacks %+v: %s", p.Metadata.Name, n, text)
		}
	}
}

func testPlain(t *testing.T, b *bed) {
	untouched := b.run(t, "plain", "", nil)
	// It comes second, so that neighpin has had its time with the first; and shows that these checks can fail.
	asking := b.run(t, "asking", "", map[string]string{"neighpin.io/pin": "true"})
	record := b.settled(t, asking)
	checkNeighbors(t, b, asking, record.Neighbors)
	entries := b.permanent(t, asking)
	for _, n := range record.Neighbors {
		if !strings.Contains(entries, n.Dst+" dev eth0 lladdr "+n.LLAddr+" PERMANENT") {
			t.Errorf("namespace of the pod that asks lacks %+v; it has\n%s", n, entries)
		}
	}

	if entries := b.permanent(t, untouched); entries != "" {
		t.Errorf("namespace of the pod without RuntimeClass has permanent entries:\n%s", entries)
	}
	for key, value := range b.configuration(t, untouched) {
		if strings.Contains(key, "neighpin") {
			t.Errorf("container of the pod without RuntimeClass has the annotation %s: %s", key, value)
		}
	}
	all, err := b.status()
	if err != nil {
		t.Fatal(err)
	}
	if record, ok := all["plain"]; ok {
		t.Errorf("neighpin has a record of the pod without RuntimeClass: %+v", record)
	}
}

func testRollingUpdate(t *testing.T, b *bed) {
	before, err := b.status()
	if err != nil {
		t.Fatal(err)
	}
	b.kubectl(t, "rollout", "restart", "--namespace", "neighpin", "daemonset/neighpin")
	during := b.run(t, "during-update", "gvisor", nil)
	b.kubectl(t, "rollout", "status", "--namespace", "neighpin", "daemonset/neighpin", "--timeout=120s")
	after := b.run(t, "after-update", "gvisor", nil)
	for _, p := range []pod{during, after} {
		record := b.settled(t, p)
		if record.Timing.Verdict != "inTime" {
			t.Errorf("pod %s: verdict %q, want inTime", p.Metadata.Name, record.Timing.Verdict)
		}
		checkNeighbors(t, b, p, record.Neighbors)
		checkAnnotation(t, b, p, record.Neighbors)
	}
	now, err := b.status()
	if err != nil {
		t.Fatal(err)
	}
	for name, record := range before {
		if !sameRecord(now[name], record) {
			t.Errorf("record of pod %s is now %+v, was %+v", name, now[name], record)
		}
	}
}

// sameRecord leaves out what the kernel says now.
func sameRecord(a, b sandbox) bool {
	for _, record := range []*sandbox{&a, &b} {
		record.Neighbors = slices.Clone(record.Neighbors)
		for i := range record.Neighbors {
			record.Neighbors[i].State = nil
		}
	}
	one, errOne := json.Marshal(a)
	other, errOther := json.Marshal(b)
	return errors.Join(errOne, errOther) == nil && string(one) == string(other)
}

func testRemoval(t *testing.T, b *bed) {
	b.kubectl(t, "delete", "pod", "--all", "--grace-period=1", "--timeout=60s")
	err := await.Within(b.ctx, 30*time.Second, "neighpin to forget the pods", func() error {
		all, err := b.status()
		if err != nil {
			return err
		}
		files, err := b.cluster.Node(b.ctx, nil, "find", "/run/neighpin/sandboxes", "-type", "f")
		if err != nil {
			return err
		}
		if len(all) != 0 || files != "" {
			return fmt.Errorf("it has records of %v and the files %q", all, files)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
