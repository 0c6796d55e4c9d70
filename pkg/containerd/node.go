// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	introspection "github.com/containerd/containerd/api/services/introspection/v1"
	version "github.com/containerd/containerd/api/services/version/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Node is what containerd says of itself, as far as it bears on pins. What could
// not be asked has its zero value, and the error of [Store.Node] says why.
type Node struct {
	// Version is containerd's, such as "2.4.2" or "1.7.35+unknown".
	Version string
	// PID is its process, in the namespace of process ids whose inode is PIDNS.
	PID, PIDNS uint64
	// CRI tells that the CRI plugin answered, from which all that follows is.
	CRI bool
	// DefaultRuntime is the handler of pods that name none.
	DefaultRuntime string
	// Runtimes are the handlers, ordered by name.
	Runtimes []Runtime
	// NetNSDir is where namespaces are mounted when not in /var/run/netns.
	NetNSDir string
	// CNI are the types of the CNI plugins of the pods' network, in their order,
	// and CNIStatus is "OK" or why their configuration could not be loaded.
	CNI       []string
	CNIStatus string
	// OneNetwork tells that no pod gets more than one network, beside the loopback.
	OneNetwork bool
}

// Runtime is one handler of the CRI plugin's configuration.
type Runtime struct {
	// Name is the handler; Type is such as io.containerd.runsc.v1.
	Name, Type string
	// PodAnnotations are globs of the pod's annotations that are passed to the
	// sandbox's OCI spec.
	PodAnnotations []string
}

// criConfig mirrors the fields read here of what the CRI plugin says of its
// configuration (containerd internal/cri/config; 1.7: pkg/cri/config). All else,
// such as what 1.7 shows of registries, is not even decoded.
type criConfig struct {
	Containerd struct {
		DefaultRuntimeName string
		Runtimes           map[string]struct {
			RuntimeType    string
			PodAnnotations []string
			CNIMaxConfNum  int // zero: as it is for all
		}
	}
	CNI struct {
		MaxConfNum int // zero: no limit
	}
	NetNSMountsUnderStateDir bool
	StateDir                 string
}

// cniConfig mirrors the fields read here of the CNI configuration.
type cniConfig struct {
	Networks []struct {
		IFName string
		Config struct {
			Plugins []struct {
				Network struct {
					Type string `json:"type"`
				}
			}
		}
	}
}

// Node asks containerd about itself. Where one question is not answered the
// others are, and the error joins the reasons; where nobody is there, one is enough.
func (s *Store) Node(ctx context.Context) (node Node, err error) {
	// They are of no namespace of containerd's, which asks for one all the same.
	ctx = s.outgoing(ctx)
	var errs []error
	if answer, err := version.NewVersionClient(s.conn).Version(ctx, &emptypb.Empty{}); status.Code(err) == codes.Unavailable {
		return node, s.explain("ask version", err)
	} else if err != nil {
		errs = append(errs, s.explain("ask version", err))
	} else {
		node.Version = strings.TrimPrefix(answer.GetVersion(), "v")
	}
	if answer, err := introspection.NewIntrospectionClient(s.conn).Server(ctx, &emptypb.Empty{}); err != nil {
		errs = append(errs, s.explain("ask process", err))
	} else {
		node.PID, node.PIDNS = answer.GetPid(), answer.GetPidns()
	}
	answer, err := cri.NewRuntimeServiceClient(s.conn).Status(ctx, &cri.StatusRequest{Verbose: true})
	if err == nil {
		err = node.readCRI(answer.GetInfo())
		node.CRI = err == nil
	}
	if err != nil {
		errs = append(errs, s.explain("ask CRI plugin", err))
	}
	return node, errors.Join(errs...)
}

// readCRI takes the verbose part of the CRI plugin's status.
func (n *Node) readCRI(info map[string]string) error {
	var config criConfig
	if err := json.Unmarshal([]byte(info["config"]), &config); err != nil {
		return fmt.Errorf("decode configuration: %w", err)
	}
	n.DefaultRuntime = config.Containerd.DefaultRuntimeName
	n.OneNetwork = config.CNI.MaxConfNum == 1
	for name, r := range config.Containerd.Runtimes {
		n.OneNetwork = n.OneNetwork && (r.CNIMaxConfNum == 0 || r.CNIMaxConfNum == 1)
		n.Runtimes = append(n.Runtimes, Runtime{Name: name, Type: r.RuntimeType, PodAnnotations: r.PodAnnotations})
	}
	slices.SortFunc(n.Runtimes, func(a, b Runtime) int { return strings.Compare(a.Name, b.Name) })
	if config.NetNSMountsUnderStateDir {
		n.NetNSDir = filepath.Join(config.StateDir, "netns")
	}
	n.CNIStatus = info["lastCNILoadStatus"]
	var cni cniConfig
	if err := json.Unmarshal([]byte(info["cniconfig"]), &cni); err != nil {
		return nil //nolint:nilerr // without a network there is none, which CNIStatus tells
	}
	for _, network := range cni.Networks {
		if network.IFName == "lo" {
			continue
		}
		for _, plugin := range network.Config.Plugins {
			n.CNI = append(n.CNI, plugin.Network.Type)
		}
	}
	return nil
}
