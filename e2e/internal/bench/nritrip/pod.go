// SPDX-License-Identifier: Apache-2.0

package nritrip

import (
	"fmt"

	"github.com/containerd/nri/pkg/api"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/bench/podstart"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
)

// Handlers and types of the pods, of which neighpin's default selects the first.
const (
	selectedHandler = "runsc"
	selectedType    = "io.containerd.runsc.v1"
	otherHandler    = "runc"
	otherType       = "io.containerd.runc.v2"
)

// newSandbox is NRI's word for a pod that has addresses.
func newSandbox(number int, handler, path string) *api.PodSandbox {
	word := rig.Sandbox(rig.NewID(), number, handler, path)
	word.Ips = []string{"10.97.1.1", "fd97::1:1"}
	return word
}

// newContainer is NRI's word for a container of it, of usual size.
func newContainer(pod *api.PodSandbox) *api.Container {
	c := &api.Container{
		Id: rig.NewID(), PodSandboxId: pod.Id, Name: "main", Labels: pod.Labels,
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
	link, err := pod.Link()
	if err != nil {
		return err
	}
	list, err := pod.Links.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the pod's addresses: %w", err)
	}
	for _, addr := range list {
		if addr.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		if err := pod.Links.AddrDel(link, &netlink.Addr{IPNet: addr.IPNet}); err != nil {
			return fmt.Errorf("take address %s: %w", addr.IPNet, err)
		}
	}
	return nil
}
