// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/sirupsen/logrus"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

func TestRuntimesThatCleanUpARefusedSandbox(t *testing.T) {
	for _, c := range []struct {
		runtime, version string
		want             bool
	}{
		{"containerd", "v1.7.35", false},
		{"containerd", "1.7.24~ds1", false},
		{"containerd", "v1.6.36", false},
		{"containerd", "v2.0.14", false},
		{"containerd", "v2.1.9", false},
		{"containerd", "v2.2.5", false},
		{"containerd", "v2.2.6", true},
		{"containerd", "v2.3.2", false},
		{"containerd", "v2.3.3", true},
		{"containerd", "v2.4.0-beta.0+unknown", true},
		{"containerd", "v2.10.1", true},
		{"containerd", "v3.0.0", true},
		{"containerd", "", false},
		{"containerd", "main", false},
		{"containerd", "v99999999999999999999.1.1", false},
		{"cri-o", "1.37.0", true},
		{"something", "v2.4.2", false},
	} {
		if got := cleansUp(c.runtime, c.version); got != c.want {
			t.Errorf("cleansUp(%q, %q) = %v", c.runtime, c.version, got)
		}
	}
}

// beyondBridge is a pod whose gateway is something beyond a bridge: the host
// knows no address of it.
func beyondBridge(t *testing.T) *api.PodSandbox {
	t.Helper()
	ns, outside := nstest.New(t), nstest.New(t)
	ns.Veth("eth0", outside, "veth0")
	outside.IP("link add br0 type bridge", "link set br0 up", "link set veth0 master br0")
	ns.IP("address add 10.88.0.2/24 dev eth0", "route add default via 10.88.0.77")
	return podIn(ns, "runsc", nil)
}

func TestRefusedSandboxWhereTheRuntimeCleansUp(t *testing.T) {
	rt := newRuntimeOf(t, "containerd", "v2.4.2")
	p := rt.serve(t, t.TempDir(), func(o *sandbox.Options) { o.Enforce = true })
	err := rt.nri.RunPodSandbox(t.Context(), &api.RunPodSandboxRequest{Pod: beyondBridge(t)})
	if err == nil || !strings.Contains(err.Error(), "10.88.0.77") || !strings.Contains(err.Error(), "RouterBeyondBridge") {
		t.Errorf("RunPodSandbox: %v", err)
	}
	if p.count("RunPodSandbox!") != 1 {
		t.Error("the failure was not observed")
	}
	_, pinned := newPod(t, "runsc", nil)
	pinned.Id = "fedcba9876543210"
	if err := rt.nri.RunPodSandbox(t.Context(), &api.RunPodSandboxRequest{Pod: pinned}); err != nil {
		t.Errorf("a pod that is pinned: %v", err)
	}
}

// containerd 2.0 would leave the sandbox's task behind.
func TestRefusedContainersWhereTheRuntimeLeaks(t *testing.T) {
	rt := newRuntimeOf(t, "containerd", "v2.0.14")
	p := rt.serve(t, t.TempDir(), func(o *sandbox.Options) { o.Enforce = true })
	pod := beyondBridge(t)
	if err := rt.nri.RunPodSandbox(t.Context(), &api.RunPodSandboxRequest{Pod: pod}); err != nil {
		t.Fatalf("RunPodSandbox: %v", err)
	}
	if p.said(logrus.WarnLevel) != 1 {
		t.Errorf("it is to be told once that the containers will be refused instead:\n%s", p.messages())
	}
	_, err := rt.tryCreate(pod, &api.Container{})
	if err == nil || !strings.Contains(err.Error(), "10.88.0.77") || !strings.Contains(err.Error(), "delete the pod") {
		t.Errorf("CreateContainer: %v", err)
	}
}

// gVisorStore stands in for containerd's sandbox store: every sandbox is gVisor's.
type gVisorStore struct{ runcStore }

func (gVisorStore) Get(_ context.Context, id string) (containerd.Record, error) {
	return containerd.Record{ID: id, Runtime: "io.containerd.runsc.v1"}, nil
}

// The wait for the pins and that for the proof of time are one wait to the runtime,
// which drops a plugin that does not answer.
func TestARefusalComesWithinASecond(t *testing.T) {
	rt := newRuntimeOf(t, "containerd", "v2.4.2")
	rt.serve(t, t.TempDir(), func(o *sandbox.Options) { o.Enforce, o.Store = true, gVisorStore{} })
	// A namespace that never comes to be mounted.
	path := filepath.Join(t.TempDir(), "cni-1")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var all []time.Duration
	for i := range 10 { // of which a machine that stands still now and then leaves one as it should be
		began := time.Now()
		err := rt.nri.RunPodSandbox(t.Context(), &api.RunPodSandboxRequest{Pod: &api.PodSandbox{
			Id: fmt.Sprintf("0123456789abcde%d", i), Name: "web", Namespace: "shop", Uid: "u1", RuntimeHandler: "runsc",
			Linux: &api.LinuxPodSandbox{Namespaces: []*api.LinuxNamespace{{Type: "network", Path: path}}},
		}})
		took := time.Since(began)
		if err == nil || !strings.Contains(err.Error(), "not been looked at in time") {
			t.Fatalf("RunPodSandbox: %v", err)
		}
		if took < time.Second {
			t.Fatalf("it took %v", took)
		}
		if took < 1500*time.Millisecond { // with both waits it is more
			return
		}
		all = append(all, took)
	}
	t.Errorf("they took %v", all)
}
