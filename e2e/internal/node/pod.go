// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/enclosure"
)

// PodSpec is what a test says about a pod.
type PodSpec struct {
	// Name is made up if empty.
	Name string
	// Namespace chooses the network: see package datapath; "default", which is ptp, if empty.
	Namespace string
	// Handler is the runtime handler; empty means containerd's default.
	Handler     string
	Annotations map[string]string
	HostNetwork bool
	// Privileged lets containers be.
	Privileged bool
	// UserNamespace gives the pod a user namespace of its own.
	UserNamespace bool
}

// Pod is a sandbox that was started.
type Pod struct {
	ID        string
	Name      string
	Namespace string
	// NetNS is the path of its network namespace; empty with the host's network.
	NetNS string
	// Addresses are the pod's own, as the CRI reports them.
	Addresses []netip.Addr
	// HostLink is the host's end of its veth; empty with the host's network.
	HostLink string
	// Took is how long the CRI's RunPodSandbox took.
	Took time.Duration

	node   *Node
	config *criapi.PodSandboxConfig
}

// sandboxInfo is the part of containerd's verbose sandbox status that names the network.
type sandboxInfo struct {
	RuntimeSpec struct {
		Linux struct {
			Namespaces []struct{ Type, Path string }
		}
	}
	CNIResult struct {
		Interfaces map[string]struct {
			Sandbox string
			Mac     string
		}
	}
}

// RunPod runs a sandbox. When it fails the sandbox may or may not exist; Close removes it.
func (n *Node) RunPod(ctx context.Context, spec PodSpec) (*Pod, error) {
	n.mu.Lock()
	n.pods++
	serial := n.pods
	n.mu.Unlock()
	if spec.Name == "" {
		spec.Name = fmt.Sprintf("pod-%d", serial)
	}
	if spec.Namespace == "" {
		spec.Namespace = "default"
	}
	p := &Pod{Name: spec.Name, Namespace: spec.Namespace, node: n, config: &criapi.PodSandboxConfig{
		Metadata:     &criapi.PodSandboxMetadata{Name: spec.Name, Namespace: spec.Namespace, Uid: fmt.Sprintf("uid-%d", serial)},
		Annotations:  spec.Annotations,
		Labels:       map[string]string{"io.kubernetes.pod.name": spec.Name, "io.kubernetes.pod.namespace": spec.Namespace},
		LogDirectory: filepath.Join(n.LogDir(), "pods", url.PathEscape(spec.Name)),
		// Without it containerd copies the machine's resolv.conf, which may lie in the /run that is not here.
		DnsConfig: &criapi.DNSConfig{Servers: []string{Gateway4.String()}},
		Linux: &criapi.LinuxPodSandboxConfig{
			CgroupParent:    enclosure.CgroupParent(),
			SecurityContext: &criapi.LinuxSandboxSecurityContext{NamespaceOptions: &criapi.NamespaceOption{Pid: criapi.NamespaceMode_CONTAINER}},
		},
	}}
	p.config.Linux.SecurityContext.Privileged = spec.Privileged
	if spec.HostNetwork {
		p.config.Linux.SecurityContext.NamespaceOptions.Network = criapi.NamespaceMode_NODE
	}
	if spec.UserNamespace {
		p.config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = userNamespace(serial)
	}
	if err := os.MkdirAll(p.config.LogDirectory, 0o755); err != nil {
		return nil, err
	}
	began := time.Now()
	id, err := n.runtime.RunPodSandbox(quiet(ctx), p.config, spec.Handler)
	p.Took = time.Since(began)
	if err != nil {
		return nil, fmt.Errorf("run pod %s/%s: %w", spec.Namespace, spec.Name, err)
	}
	p.ID = id
	// containerd gives its shim two seconds to answer, which on a busy machine are too few.
	err = await.Within(ctx, callLimit, "the status of pod "+spec.Namespace+"/"+spec.Name, func() error { return p.inspect(ctx) })
	if err != nil {
		return nil, err
	}
	return p, nil
}

// userNamespace maps the ids of a pod to a range of its own, as the kubelet does.
func userNamespace(serial int) *criapi.UserNamespace {
	const length = 1 << 16
	ids := func() []*criapi.IDMapping {
		return []*criapi.IDMapping{{HostId: uint32(serial) * length, ContainerId: 0, Length: length}}
	}
	return &criapi.UserNamespace{Mode: criapi.NamespaceMode_POD, Uids: ids(), Gids: ids()}
}

// inspect asks the CRI for the pod's network.
func (p *Pod) inspect(ctx context.Context) error {
	response, err := p.node.runtime.PodSandboxStatus(quiet(ctx), p.ID, true)
	if err != nil {
		return err
	}
	var info sandboxInfo
	if err := json.Unmarshal([]byte(response.Info["info"]), &info); err != nil {
		return fmt.Errorf("parse the verbose status: %w", err)
	}
	for _, namespace := range info.RuntimeSpec.Linux.Namespaces {
		if namespace.Type == "network" {
			p.NetNS = namespace.Path
		}
	}
	for name, link := range info.CNIResult.Interfaces {
		if link.Sandbox == "" && strings.HasPrefix(name, "veth") {
			p.HostLink = name
		}
	}
	network := response.Status.Network
	if network == nil || network.Ip == "" {
		return nil
	}
	addresses := []string{network.Ip}
	for _, further := range network.AdditionalIps {
		addresses = append(addresses, further.Ip)
	}
	p.Addresses = nil
	for _, text := range addresses {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return err
		}
		p.Addresses = append(p.Addresses, ip)
	}
	return nil
}

// Remove stops and removes the sandbox with its containers.
func (p *Pod) Remove(ctx context.Context) error { return p.node.RemovePod(ctx, p.ID) }

// RemoveAtOnce removes the sandbox with its containers, which nobody has stopped before.
func (p *Pod) RemoveAtOnce(ctx context.Context) error {
	if err := p.node.runtime.RemovePodSandbox(quiet(ctx), p.ID); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", p.ID, err)
	}
	return nil
}

// RemovePod stops and removes a sandbox with its containers, by its id.
func (n *Node) RemovePod(ctx context.Context, id string) error {
	if err := n.runtime.StopPodSandbox(quiet(ctx), id); err != nil {
		return fmt.Errorf("stop sandbox %s: %w", id, err)
	}
	if err := n.runtime.RemovePodSandbox(quiet(ctx), id); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", id, err)
	}
	return nil
}

// RemoveAllPods removes every sandbox there is, also those that never came to be, as the kubelet does.
func (n *Node) RemoveAllPods(ctx context.Context) error {
	sandboxes, err := n.runtime.ListPodSandbox(quiet(ctx), nil)
	if err != nil {
		return fmt.Errorf("list sandboxes: %w", err)
	}
	var errs []error
	for _, sandbox := range sandboxes {
		errs = append(errs, n.RemovePod(ctx, sandbox.Id))
	}
	return errors.Join(errs...)
}

// Sandboxes are the ids of all sandboxes that the CRI lists.
func (n *Node) Sandboxes(ctx context.Context) ([]string, error) {
	sandboxes, err := n.runtime.ListPodSandbox(quiet(ctx), nil)
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	ids := make([]string, 0, len(sandboxes))
	for _, sandbox := range sandboxes {
		ids = append(ids, sandbox.Id)
	}
	return ids, nil
}
