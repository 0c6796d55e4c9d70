// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/tarball"
)

// story is what scripts read from `neighpin show -o json`.
type story struct {
	Problems []string `json:"problems"`
	Record   struct {
		node.Sandbox
		Taken   bool `json:"taken"`
		History []struct {
			At   time.Time `json:"at"`
			What string    `json:"what"`
			Text string    `json:"text"`
		} `json:"history"`
	} `json:"record"`
	Copied []node.Neighbor `json:"copied"`
	Now    *struct {
		HandedOver bool            `json:"handedOver"`
		Resolved   []node.Neighbor `json:"resolved"`
		Routes     []struct {
			Dst     string `json:"dst"`
			Gateway string `json:"gateway"`
			Dev     string `json:"dev"`
		} `json:"routes"`
	} `json:"now"`
	Ends []struct {
		Name string `json:"ifname"`
	} `json:"ends"`
}

// operate runs a command that must end with the exit code that is wanted.
func operate(t *testing.T, want int, args ...string) string {
	t.Helper()
	out, code, err := bed.CLI(t.Context(), args...)
	if code != want {
		t.Fatalf("%v: exit code %d, want %d: %v\n%s", args, code, want, err, out)
	}
	return out
}

func show(t *testing.T, want int, what string) story {
	t.Helper()
	var s story
	if err := json.Unmarshal([]byte(operate(t, want, "show", what, "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// kinds are what a history tells, in its order.
func (s story) kinds() (list []string) {
	for _, moment := range s.Record.History {
		list = append(list, moment.What)
	}
	return list
}

// inOrder tells whether all of want come in list, in that order.
func inOrder(list []string, want ...string) bool {
	for _, item := range list {
		if len(want) > 0 && item == want[0] {
			want = want[1:]
		}
	}
	return len(want) == 0
}

// runBoth starts a pod of gVisor and one of runc that opted in, with a container each.
func runBoth(t *testing.T, d *node.Daemon) (gvisor, kernel *node.Pod) {
	t.Helper()
	gvisor = runPod(t, node.PodSpec{Handler: "runsc"})
	kernel = runPod(t, node.PodSpec{Handler: "runc", Annotations: map[string]string{pinAnnotation: "true"}})
	for _, pod := range []*node.Pod{gvisor, kernel} {
		runContainer(t, pod)
		if _, err := started(t.Context(), d, pod); err != nil {
			t.Fatal(err)
		}
	}
	return gvisor, kernel
}

func TestListAndShowTellTheStoryOfRealPods(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	gvisor, kernel := runBoth(t, d)
	table := operate(t, 0, "list")
	for _, pod := range []*node.Pod{gvisor, kernel} {
		if !slices.ContainsFunc(strings.Split(table, "\n"), func(line string) bool {
			return strings.Contains(line, pod.Name+" ") && strings.Contains(line, " 2/2 ") && strings.Contains(line, " inTime ") && strings.Contains(line, " OK ")
		}) {
			t.Errorf("no line for pod %s that is in time:\n%s", pod.Name, table)
		}
	}
	if wide := operate(t, 0, "list", "-o", "wide"); strings.Count(wide, gvisor.ID) != len(gateways) {
		t.Errorf("not a line for each gateway of the gVisor pod:\n%s", wide)
	}
	operate(t, 0, "list", "--problems")

	s := show(t, 0, gvisor.Namespace+"/"+gvisor.Name)
	if !inOrder(s.kinds(), "found", "pinned", "timing") || !s.Record.Taken || len(s.Copied) != len(gateways) || s.Now == nil || !s.Now.HandedOver {
		t.Errorf("the gVisor pod's story: %+v, history %v", s, s.kinds())
	}
	if len(s.Ends) != 1 || s.Ends[0].Name != gvisor.HostLink {
		t.Errorf("other ends %+v, want %s", s.Ends, gvisor.HostLink)
	}
	s = show(t, 0, kernel.ID[:12])
	if !inOrder(s.kinds(), "found", "pinned", "timing") || s.Record.Taken || s.Now == nil || s.Now.HandedOver || len(s.Now.Resolved) != len(gateways) ||
		!slices.ContainsFunc(s.Now.Routes, func(r struct {
			Dst     string `json:"dst"`
			Gateway string `json:"gateway"`
			Dev     string `json:"dev"`
		}) bool {
			return r.Dst == "default" && r.Gateway == node.Gateway4.String() && r.Dev == "eth0"
		}) {
		t.Errorf("the runc pod's story: %+v, history %v", s, s.kinds())
	}

	// Whoever comes after a kill tells the same, and more. Meanwhile the records do.
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	if s = show(t, 0, gvisor.Name); !inOrder(s.kinds(), "found", "pinned", "timing") {
		t.Errorf("history by the record alone: %v", s.kinds())
	}
	startDaemon(t)
	if s = show(t, 0, gvisor.Name); !inOrder(s.kinds(), "found", "pinned", "timing", "adopted") {
		t.Errorf("history after a restart: %v", s.kinds())
	}
	operate(t, 1, "show", "nobody")
}

// check runs a check and returns its items by name.
func check(t *testing.T, want int, args ...string) map[string]checked {
	t.Helper()
	return checkedItems(t, operate(t, want, append([]string{"check", "-o", "json"}, args...)...))
}

type checked struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Found  string `json:"found"`
	Do     string `json:"do"`
}

func checkedItems(t *testing.T, out string) map[string]checked {
	t.Helper()
	var report struct {
		Items []checked `json:"items"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	items := map[string]checked{}
	for _, item := range report.Items {
		items[item.Name] = item
	}
	return items
}

// The bed's containerd passes io.neighpin.* of pods of runsc on, which a check warns of.
func TestCheckFindsARealNodeGoodAndWarnsOfPodAnnotations(t *testing.T) {
	keepLogs(t)
	release := strings.ReplaceAll(bed.Release(), ".", "\\.")
	expect := func(items map[string]checked, want map[string]string) {
		t.Helper()
		for name, status := range want {
			if items[name].Status != status {
				t.Errorf("%s: %+v, want %s", name, items[name], status)
			}
		}
	}
	common := map[string]string{
		"kernel": "ok", "capabilities": "ok", "containerd": "ok", "host's network": "ok", "timing": "ok", "NRI": "ok",
		"handlers": "ok", "pod_annotations": "warning", "CNI": "ok", "NRI's validator": "ok", "namespaces in /var/run/netns": "ok",
	}
	alone := check(t, 0)
	expect(alone, common)
	expect(alone, map[string]string{"NRI's request timeout": "unknown"})
	if !strings.Contains(alone["pod_annotations"].Found, "runsc (io.neighpin.*)") || !strings.HasPrefix(alone["containerd"].Found, strings.ReplaceAll(release, "\\", "")) ||
		!strings.Contains(alone["handlers"].Found, "runsc") {
		t.Errorf("%+v", alone)
	}
	startDaemon(t)
	served := check(t, 0)
	expect(served, common)
	expect(served, map[string]string{"NRI's request timeout": "ok"})
	if !strings.Contains(served["NRI"].Found, "the daemon is connected") {
		t.Errorf("%+v", served["NRI"])
	}
	if got := check(t, 0, "--handlers", "nothing"); got["handlers"].Status != "warning" {
		t.Errorf("%+v", got["handlers"])
	}
}

// As 1.7 is by itself, and 2.x where somebody turned it off.
func TestCheckSaysHowToTurnNRIOn(t *testing.T) {
	keepLogs(t)
	restartContainerd(t, func(o *node.Options) { o.NRIDisabled = true }, func(o *node.Options) { o.NRIDisabled = false })
	got := check(t, 3)["NRI"]
	if got.Status != "failed" || !strings.Contains(got.Do, `disable = false in [plugins."io.containerd.nri.v1.nri"]`) {
		t.Errorf("%+v", got)
	}
	if table := operateAny(t, "check"); !strings.Contains(table, "-> Turn NRI on") {
		t.Errorf("%s", table)
	}
}

func operateAny(t *testing.T, args ...string) string {
	t.Helper()
	out, _, err := bed.CLI(t.Context(), args...)
	if out == "" {
		t.Fatal(err)
	}
	return out
}

// contained runs a command as the DaemonSet's container does: as root with three capabilities, with process ids and mounts
// of its own, whose propagation is the argument.
func contained(t *testing.T, propagation string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	line := append([]string{"--mount", "--propagation", propagation, "--pid", "--fork", "--mount-proc",
		"setpriv", "--bounding-set=-all,+sys_admin,+net_admin,+net_broadcast", "--no-new-privs", bed.Programs().Neighpin()}, args...)
	var complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, "unshare", line...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	exit, failed := errors.AsType[*exec.ExitError](err)
	if err != nil && !failed {
		t.Fatalf("%v: %v\n%s", args, err, complaint.String())
	}
	if failed {
		return string(out), exit.ExitCode()
	}
	return string(out), 0
}

func TestOperatorsCommandsWorkInTheDaemonSetsContainer(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	runContainer(t, pod)
	if _, err := started(t.Context(), d, pod); err != nil {
		t.Fatal(err)
	}
	// The bed's own mounts are private; those of a node are shared, and the kubelet's are slaves of them.
	propagate := func(flag uintptr) {
		if err := unix.Mount("", "/run", "", flag, ""); err != nil {
			t.Error(err)
		}
	}
	propagate(unix.MS_SHARED)
	t.Cleanup(func() { propagate(unix.MS_PRIVATE) })
	for propagation, want := range map[string]struct {
		status string
		code   int
	}{"slave": {"ok", 0}, "private": {"failed", 3}} {
		out, code := contained(t, propagation, "check", "-o", "json")
		items := checkedItems(t, out)
		if got := items["namespaces in /var/run/netns"]; code != want.code || got.Status != want.status {
			t.Errorf("%s: exit code %d, %+v; want %d and %s", propagation, code, got, want.code, want.status)
		}
		if got := items["capabilities"]; got.Status != "ok" {
			t.Errorf("%+v", got)
		}
		if propagation == "private" && !strings.Contains(items["namespaces in /var/run/netns"].Do, "HostToContainer") {
			t.Errorf("%+v", items["namespaces in /var/run/netns"])
		}
	}
	out, code := contained(t, "slave", "show", pod.Name, "-o", "json")
	var s story
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != 0 || s.Now == nil || len(s.Ends) != 1 {
		t.Errorf("show: exit code %d, %v\n%s", code, err, out)
	}
	bundle, code := contained(t, "slave", "support-bundle")
	files := unpack(t, []byte(bundle))
	if _, there := files["sandboxes/"+pod.ID+".json"]; !there || code != 0 || !strings.HasPrefix(files["not-collected.txt"], "nothing") {
		t.Errorf("support-bundle: exit code %d, not collected: %s", code, files["not-collected.txt"])
	}
}

// unpack reads a bundle: the files by their names without the folder.
func unpack(t *testing.T, data []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := tarball.Read(zip)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, entry := range entries {
		_, name, _ := strings.Cut(entry.Header.Name, "/")
		files[name] = string(entry.Data)
	}
	return files
}

func TestASupportBundleHasTheNodeAndNoSecretOfItsPods(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	const secret = "hunter2-in-an-annotation"
	pod := runPod(t, node.PodSpec{Handler: "runsc", Annotations: map[string]string{"vault.example.com/token": secret}})
	runContainer(t, pod)
	if _, err := started(t.Context(), d, pod); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	operate(t, 0, "support-bundle", "--file", file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, data)
	for name, want := range map[string]string{
		"status.json": `"synchronized": true`, "metrics.txt": "neighpin_", "goroutines.txt": "goroutine profile", "config.yaml": "handlers:",
		"check.json": "pod_annotations", "list.txt": pod.ID, "records/" + pod.ID + ".json": `"inTime"`, "sandboxes/" + pod.ID + ".json": `"handedOver": true`,
		"not-collected.txt": "nothing",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s does not have %q:\n%s", name, want, files[name])
		}
	}
	for name, text := range files {
		if strings.Contains(text, secret) {
			t.Errorf("%s has an annotation of the pod", name)
		}
	}
}
