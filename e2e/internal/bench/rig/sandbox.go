// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/containerd/nri/pkg/api"
)

// NewID is an id as containerd's CRI makes it.
func NewID() string {
	var random [32]byte
	_, _ = rand.Read(random[:]) // which never fails
	return hex.EncodeToString(random[:])
}

// Sandbox is NRI's word for a pod of that id, number and runtime handler, whose network namespace is at that path, with what the kubelet
// adds to every one.
func Sandbox(id string, number int, handler, path string) *api.PodSandbox {
	name, uid := fmt.Sprintf("web-6c8f9d7b5-%05d", number), fmt.Sprintf("4c3f7d52-5d0e-4b8e-9a43-%012d", number)
	return &api.PodSandbox{
		Id: id, Name: name, Namespace: "shop", Uid: uid, RuntimeHandler: handler,
		Labels: map[string]string{
			"app": "web", "pod-template-hash": "6c8f9d7b5",
			"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": uid,
		},
		Annotations: map[string]string{
			"kubernetes.io/config.seen": "2026-01-01T00:00:00.000000000Z", "kubernetes.io/config.source": "api",
			"prometheus.io/scrape": "true", "prometheus.io/port": "9090",
		},
		Linux: &api.LinuxPodSandbox{
			CgroupParent: "/kubepods/burstable/pod" + uid,
			Namespaces:   []*api.LinuxNamespace{{Type: "ipc"}, {Type: "pid"}, {Type: "mount"}, {Type: "uts"}, {Type: "network", Path: path}},
		},
		Pid: 4242,
	}
}
