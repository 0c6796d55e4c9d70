// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/node"
)

// restored is a sandbox of runsc's own in the network namespace of a pod, driven with the arguments that gVisor's shim gives
// (gVisor pkg/shim/v1/runsccmd): containerd has no call that makes the shim restore.
type restored struct {
	id, bundle, log string
	pod             *node.Pod // whose namespace it uses
}

// newRestored makes a bundle like that of the sandbox that was checkpointed, for the namespace of another pod, whose pins go.
func newRestored(t *testing.T, id string, checkpointed, pod *node.Pod) *restored {
	t.Helper()
	r := &restored{id: id, bundle: t.TempDir(), pod: pod}
	r.log = filepath.Join(r.bundle, "log.json")
	data, err := os.ReadFile(filepath.Join(checkpointed.Bundle(), "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(data, &config); err != nil {
		t.Fatal(err)
	}
	config["root"].(map[string]any)["path"] = filepath.Join(checkpointed.Bundle(), "rootfs")
	for _, namespace := range config["linux"].(map[string]any)["namespaces"].([]any) {
		if namespace := namespace.(map[string]any); namespace["type"] == "network" {
			namespace["path"] = pod.NetNS
		}
	}
	if data, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.bundle, "config.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if result, err := r.runsc(context.Background(), "delete", "--force", r.id); err != nil || result.Code != 0 {
			t.Errorf("delete %s: %+v, %v", r.id, result, err)
		}
	})
	return r
}

// runsc runs a command of the wrapper's as the shim would.
func (r *restored) runsc(ctx context.Context, command ...string) (node.Result, error) {
	return r.as(ctx, node.WrapperRunsc, command...)
}

// as is runsc with the program named.
func (r *restored) as(ctx context.Context, program string, command ...string) (node.Result, error) {
	return bed.Command(ctx, program, append([]string{
		"--root=" + node.RunscRoot, "--log=" + r.log, "--log-format=json", "--platform=systrap", "--ignore-cgroups=true",
		"--debug=true", "--debug-log=" + bed.LogDir() + "/runsc/%ID%/%COMMAND%.log",
	}, command...)...)
}

// restore restores with a program, and returns what runsc says that it copied from the namespace.
func (r *restored) restore(t *testing.T, program, image string) {
	t.Helper()
	if result, err := r.as(t.Context(), program, "restore", "--image-path="+image, "--detach", r.id); err != nil || result.Code != 0 || result.Stdout != "" {
		log, _ := os.ReadFile(r.log)
		t.Fatalf("restore: %+v, %v\n%s", result, err, log)
	}
}

// gVisor reads its neighbors anew when it is restored, so that they have to be there once more: they may have gone since the
// container was created, and those of the checkpoint are another node's.
func TestWrapperPinsAgainBeforeARestore(t *testing.T) {
	keepLogs(t)
	wrap(t, "")
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	image := t.TempDir()
	checkpointed := &restored{id: pod.ID, log: filepath.Join(image, "log.json"), pod: pod}
	if result, err := checkpointed.runsc(t.Context(), "checkpoint", "--image-path="+image, "--leave-running", pod.ID); err != nil || result.Code != 0 {
		t.Fatalf("checkpoint: %+v, %v", result, err)
	}
	for _, c := range []struct {
		scenario, program string
		pinned            bool
	}{
		{"wrapped", node.WrapperRunsc, true},
		{"control", filepath.Join(bed.Programs().GVisor, "runsc"), false},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			target := runPod(t, node.PodSpec{Handler: "runc"})
			r := newRestored(t, "restored-"+c.scenario, pod, target)
			if result, err := r.runsc(t.Context(), "create", "--bundle", r.bundle, "--pid-file", filepath.Join(r.bundle, "init.pid"), r.id); err != nil || result.Code != 0 {
				t.Fatalf("create: %+v, %v", result, err)
			}
			created, err := os.ReadFile(filepath.Join(r.bundle, "config.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := flush(target); err != nil {
				t.Fatal(err)
			}
			r.restore(t, c.program, image)
			copied, err := node.CopiedBy(filepath.Join(bed.LogDir(), "runsc", r.id, "restore.log"))
			switch {
			case err != nil:
				t.Fatal(err)
			case c.pinned:
				if err := checkTrue(target, copied); err != nil {
					t.Errorf("runsc copied: %v", err)
				}
			case len(copied) != 0:
				t.Errorf("runsc copied %v without the wrapper; the comparison proves nothing", copied)
			}
			if now, err := os.ReadFile(filepath.Join(r.bundle, "config.json")); err != nil || string(now) != string(created) {
				t.Errorf("the bundle was edited at restore: %v", err)
			}
		})
	}
}

// flush removes every permanent entry from the pod's namespace.
func flush(pod *node.Pod) error {
	ns, err := netns.GetFromPath(pod.NetNS)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", pod.NetNS, err)
	}
	defer ns.Close()
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer handle.Close()
	entries, err := handle.NeighList(0, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.State != unix.NUD_PERMANENT {
			continue
		}
		if err := handle.NeighDel(&entry); err != nil {
			return fmt.Errorf("remove %s: %w", entry.IP, err)
		}
	}
	return nil
}
