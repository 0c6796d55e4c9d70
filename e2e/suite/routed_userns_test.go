// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// A pod with a user namespace of its own, which then owns its network namespace too, is as any other.
//
// gVisor's shim takes no pod that joins a user namespace by its path. runc 1.1, which distributions have, runs the sandbox, but in
// its containers it cannot mount files with mapped ids: so the pod's container is created and not started, and what it would do in
// the pod's network is done there by the test.
func TestRowUserNamespace(t *testing.T) {
	keepLogs(t)
	r := &rowRun{d: startDaemon(t), wire: capture(t), begin: time.Now()}
	r.pod = runPod(t, node.PodSpec{Handler: "runc", Annotations: optIn, UserNamespace: true})
	if _, err := r.pod.Create(t.Context(), node.ContainerSpec{}); err != nil {
		t.Fatal(err)
	}
	r.refresh(t)
	mac := r.hostEnd(t)
	r.recorded(t, map[string]truth{"10.97.0.1": {mac, "peer"}, "fd97::1": {mac, "peer"}})
	r.skipped(t, map[string]string{})
	if r.sandbox.Timing.Verdict != "inTime" || !r.sandbox.Annotated {
		t.Errorf("%+v, annotated: %t; want it in time and annotated", r.sandbox.Timing, r.sandbox.Annotated)
	}
	if used := r.entries(t); used["10.97.0.1"] != mac || used["fd97::1"] != mac {
		t.Errorf("the kernel has %v, want %s", used, mac)
	}
	err := datapath.Inside(r.pod.NetNS, func() error {
		for _, target := range node.Targets() {
			connection, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", target)
			if err != nil {
				return err
			}
			connection.Close()
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	r.silent(t, "10.97.0.1", "fd97::1")
	if owned, err := ownedByThisUserNamespace(r.pod.NetNS); err != nil || owned {
		t.Errorf("the pod's network namespace is the node's: %t, %v", owned, err)
	}
}

// ownedByThisUserNamespace tells whether a network namespace belongs to the caller's user namespace.
func ownedByThisUserNamespace(path string) (bool, error) {
	ns, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer ns.Close()
	fd, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var theirs, ours unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &theirs), unix.Stat("/proc/self/ns/user", &ours)); err != nil {
		return false, err
	}
	return theirs.Ino == ours.Ino, nil
}

// containerd may keep the namespaces of pods in its own state folder (netns_mounts_under_state_dir); who has set that tells neighpin.
func TestRowNamespacesInContainerdsStateFolder(t *testing.T) {
	keepLogs(t)
	restartContainerd(t, func(o *node.Options) { o.NetNSInStateDir = true }, func(o *node.Options) { o.NetNSInStateDir = false })
	row(t, rowSpec{name: "default", args: []string{"--netns-dirs", node.NetNSStateDir}}, func(t *testing.T, r *rowRun) {
		if !strings.HasPrefix(r.pod.NetNS, node.NetNSStateDir) {
			t.Fatalf("the pod's namespace is %s", r.pod.NetNS)
		}
		ptpPinned(t, r)
	})
	t.Run("neighpin is not told", func(t *testing.T) {
		// NRI tells of the pod when gVisor has read its namespace.
		row(t, rowSpec{name: "default", only: "gVisor"}, func(t *testing.T, r *rowRun) {
			if used := r.used(t); r.sandbox.Timing.Verdict != "late" || len(used) != 0 {
				t.Errorf("%+v, and gVisor has %v; want it late", r.sandbox.Timing, used)
			}
		})
	})
}
