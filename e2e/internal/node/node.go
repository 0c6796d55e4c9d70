// SPDX-License-Identifier: Apache-2.0

// Package node runs a Kubernetes node without Kubernetes: containerd with runc and gVisor, CNI plugins, images, and
// the CRI to drive them. It must run inside an enclosure (see package enclosure): it uses /run and the network
// as if they were its own, which they are there, so that every default path of neighpin and containerd holds.
//
// Pods get an address of 10.97.0.0/16 and one of fd97::/64 and reach the node through a veth each, whose
// host end holds both gateway addresses (CNI's ptp plugin), unless they choose another network by their
// Kubernetes namespace: see package datapath.
package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	internalapi "k8s.io/cri-api/pkg/apis"

	"github.com/neighpin/neighpin/e2e/internal/setup"
)

const (
	// dir is where everything is that has no default path under /run.
	dir = "/run/np"

	// ContainerdSocket and NRISocket are the runtime's defaults.
	ContainerdSocket = "/run/containerd/containerd.sock"
	NRISocket        = "/run/nri/nri.sock"

	// NetNSStateDir is where containerd mounts the namespaces of pods if Options.NetNSInStateDir says so.
	NetNSStateDir = dir + "/state/io.containerd.grpc.v1.cri/netns"

	// Image is the workload's only image.
	Image      = "neighpin.io/e2e/workload:latest"
	pauseImage = "registry.k8s.io/pause:3.10.1"

	// Port is where the node listens on all of its addresses.
	Port = 8080

	// startLimit and stopLimit are far beyond what starting and stopping take, for machines that stand still for seconds at times.
	startLimit = 2 * time.Minute
	stopLimit  = time.Minute
)

// Gateways of every pod.
var (
	Gateway4 = netip.MustParseAddr("10.97.0.1")
	Gateway6 = netip.MustParseAddr("fd97::1")
)

// Addresses of the node beyond the gateways: a packet to them is routed, not on-link.
var (
	beyond4 = netip.MustParseAddr("198.51.100.1")
	beyond6 = netip.MustParseAddr("2001:db8:97::1")
)

// Options are what tests vary about a node.
type Options struct {
	// DefaultRuntime is the handler of pods that name none: "runc" (also if empty) or "runsc".
	DefaultRuntime string
	// NRIDisabled makes containerd serve no NRI: its socket is missing.
	NRIDisabled bool
	// Plugins are neighpins that containerd launches itself: by the name in its plugin folder, such as
	// "10-neighpin", the configuration beside it.
	Plugins map[string]string
	// Runc and Runsc are the programs that the shims execute, if not runc and runsc: see InstallWrapper.
	Runc, Runsc string
	// NetNSInStateDir makes containerd mount the namespaces of pods in NetNSStateDir, not in /var/run/netns.
	NetNSInStateDir bool
	// RunscQuiet keeps runsc from writing down what it does, which takes time: then Copied and RunscBegan tell nothing.
	RunscQuiet bool
}

// Node is a running node. Its methods may be called concurrently, except those that start, stop or
// reconfigure containerd.
type Node struct {
	programs   setup.Programs
	options    Options
	containerd *process
	listener   net.Listener
	serving    sync.WaitGroup

	runtime internalapi.RuntimeService
	images  internalapi.ImageManagerService

	mu      sync.Mutex
	daemons []*Daemon
	pods    int
}

// Start starts a node: its folders, network and containerd with the images in it, and nothing else: of an earlier node of the
// enclosure there are the logs. Only one can run in an enclosure at a time.
func Start(ctx context.Context, programs setup.Programs, options Options) (_ *Node, err error) {
	n := &Node{programs: programs, options: options}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start the node: %w", err), n.Close(context.WithoutCancel(ctx)))
		}
	}()
	for _, d := range []string{"root", "state"} { // containerd's
		if err := os.RemoveAll(filepath.Join(dir, d)); err != nil {
			return nil, fmt.Errorf("remove what an earlier node has left: %w", err)
		}
	}
	for _, d := range []string{dir, n.LogDir(), filepath.Join(dir, "cni"), filepath.Join(dir, "runsc")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := n.listen(ctx); err != nil {
		return nil, err
	}
	if err := writeCNI(filepath.Join(dir, "cni")); err != nil {
		return nil, err
	}
	if err := linkCNI(programs); err != nil {
		return nil, err
	}
	if err := n.StartContainerd(ctx); err != nil {
		return nil, err
	}
	if err := n.importImages(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

// Close ends all that the node started: daemons, pods, containerd.
func (n *Node) Close(ctx context.Context) error {
	var errs []error
	n.mu.Lock()
	daemons := n.daemons
	n.mu.Unlock()
	for _, d := range daemons {
		errs = append(errs, d.Kill())
	}
	if n.runtime != nil {
		errs = append(errs, n.RemoveAllPods(ctx))
	}
	errs = append(errs, n.StopContainerd(ctx))
	if n.listener != nil {
		n.listener.Close()
		n.serving.Wait()
	}
	return errors.Join(errs...)
}

// Release is the minor release of containerd that the node runs, such as "2.4".
func (n *Node) Release() string { return n.programs.Release }

// LogDir is where containerd's, neighpin's and runsc's logs are.
func (n *Node) LogDir() string { return filepath.Join(dir, "logs") }

// listen gives lo the addresses beyond the gateways and serves TCP on every address.
func (n *Node) listen(ctx context.Context) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	for _, ip := range []netip.Addr{beyond4, beyond6} {
		prefix := netip.PrefixFrom(ip, ip.BitLen())
		addr, err := netlink.ParseAddr(prefix.String())
		if err != nil {
			return err
		}
		if err := netlink.AddrReplace(lo, addr); err != nil {
			return fmt.Errorf("add %s to lo: %w", prefix, err)
		}
	}
	n.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("[::]:%d", Port))
	if err != nil {
		return err
	}
	n.serving.Go(func() {
		for {
			connection, err := n.listener.Accept()
			if err != nil {
				return
			}
			connection.Close()
		}
	})
	return nil
}

// Targets are the addresses that pods connect to, host:port: for both families one of the gateway itself and one
// behind it.
func Targets() []string {
	return append([]string{target(Gateway4), target(Gateway6)}, Beyond()...)
}

// Beyond are those of Targets that are behind the gateways, whichever these are.
func Beyond() []string { return []string{target(beyond4), target(beyond6)} }

func target(ip netip.Addr) string { return netip.AddrPortFrom(ip, Port).String() }
