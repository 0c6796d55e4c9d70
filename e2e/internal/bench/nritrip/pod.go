// SPDX-License-Identifier: Apache-2.0

package nritrip

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"

	"github.com/containerd/nri/pkg/api"
	"github.com/vishvananda/netlink"
	handle "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/bench/podstart"
	"github.com/neighpin/neighpin/pkg/netns"
)

// Handlers and types of the pods, of which neighpin's default selects the first.
const (
	selectedHandler = "runsc"
	selectedType    = "io.containerd.runsc.v1"
	otherHandler    = "runc"
	otherType       = "io.containerd.runc.v2"
)

// newID is an id as containerd's CRI makes it.
func newID() string {
	var random [32]byte
	_, _ = rand.Read(random[:]) // which never fails
	return hex.EncodeToString(random[:])
}

// newSandbox is NRI's word for a pod, with what the kubelet adds to every one.
func newSandbox(number int, handler, path string) *api.PodSandbox {
	name := fmt.Sprintf("web-6c8f9d7b5-%05d", number)
	uid := fmt.Sprintf("4c3f7d52-5d0e-4b8e-9a43-%012d", number)
	return &api.PodSandbox{
		Id: newID(), Name: name, Namespace: "shop", Uid: uid, RuntimeHandler: handler,
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
		Pid: 4242, Ips: []string{"10.97.1.1", "fd97::1:1"},
	}
}

// newContainer is NRI's word for a container of it, of usual size.
func newContainer(pod *api.PodSandbox) *api.Container {
	c := &api.Container{
		Id: newID(), PodSandboxId: pod.Id, Name: "main", Labels: pod.Labels,
		Annotations: map[string]string{
			"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": pod.Id,
			"io.kubernetes.cri.sandbox-name": pod.Name, "io.kubernetes.cri.sandbox-namespace": pod.Namespace,
			"io.kubernetes.cri.image-name": "registry.example.com/shop/web:v1",
		},
		Args: []string{"/usr/bin/web", "--listen=:8080", "--config=/etc/web/config.yaml"},
	}
	for i := range 20 {
		c.Env = append(c.Env, fmt.Sprintf("SERVICE_%d_PORT_8080_TCP_ADDR=10.96.0.%d", i, i))
	}
	for _, target := range []string{"/etc/hosts", "/dev/termination-log", "/etc/hostname", "/etc/resolv.conf", "/dev/shm", "/var/run/secrets/kubernetes.io/serviceaccount"} {
		c.Mounts = append(c.Mounts, &api.Mount{
			Destination: target, Type: "bind", Source: "/var/lib/kubelet/pods/" + pod.Uid + target, Options: []string{"rbind", "rprivate", "rw"},
		})
	}
	return c
}

// take does to a pod's namespace what gVisor does when it has copied it: it removes the addresses.
func take(pod *podstart.Pod) error {
	ns, err := netns.Open(pod.Path)
	if err != nil {
		return err
	}
	defer ns.Close()
	inner, err := netlink.NewHandleAt(handle.NsHandle(ns.FD()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	defer inner.Close()
	link, err := inner.LinkByName(podstart.PodLink)
	if err != nil {
		return fmt.Errorf("find the pod's link: %w", err)
	}
	list, err := inner.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the pod's addresses: %w", err)
	}
	for _, addr := range list {
		if addr.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		if err := inner.AddrDel(link, &netlink.Addr{IPNet: &net.IPNet{IP: addr.IP, Mask: addr.Mask}}); err != nil {
			return fmt.Errorf("take address %s: %w", addr.IPNet, err)
		}
	}
	return nil
}
