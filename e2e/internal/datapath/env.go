// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/vishvananda/netlink"
)

// parameterDir holds a file per pod that is to have parameters.
const parameterDir = "/run/np/datapath"

// Env is one call of the plugin, for one link of one pod.
type Env struct {
	// NetNS is the path of the pod's network namespace; on DEL it may be empty or gone.
	NetNS string
	// IfName is the name that the pod's link is to have.
	IfName string
	// ContainerID is the sandbox's.
	ContainerID string
	// PodNamespace and PodName are Kubernetes' names of the pod.
	PodNamespace, PodName string
	// HostLink is a name for the host's end of the pod's link, the same in every call for the pod. It begins with "veth", by
	// which the suite finds it in the CNI result.
	HostLink string

	stdin []byte
}

func newEnv(args *skel.CmdArgs) (*Env, error) {
	sum := sha256.Sum256([]byte(args.ContainerID + "/" + args.IfName))
	e := &Env{NetNS: args.Netns, IfName: args.IfName, ContainerID: args.ContainerID, HostLink: "veth" + hex.EncodeToString(sum[:4]), stdin: args.StdinData}
	for pair := range strings.SplitSeq(args.Args, ";") {
		switch name, value, _ := strings.Cut(pair, "="); name {
		case "K8S_POD_NAMESPACE":
			e.PodNamespace = value
		case "K8S_POD_NAME":
			e.PodName = value
		}
	}
	return e, nil
}

// WriteParameters leaves parameters for the pod of that name, which the datapath reads by Env.Parameters. The file stays.
func WriteParameters(podName string, parameters any) error {
	data, err := json.Marshal(parameters)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(parameterDir, 0o755); err != nil {
		return fmt.Errorf("write parameters of pod %s: %w", podName, err)
	}
	return os.WriteFile(parameterFile(podName), data, 0o644)
}

func parameterFile(podName string) string { return filepath.Join(parameterDir, podName+".json") }

// Parameters reads what the test left for this pod; without that, parameters keep their values.
func (e *Env) Parameters(parameters any) error {
	data, err := os.ReadFile(parameterFile(e.PodName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read parameters of pod %s: %w", e.PodName, err)
	}
	if err := json.Unmarshal(data, parameters); err != nil {
		return fmt.Errorf("parse parameters of pod %s: %w", e.PodName, err)
	}
	return nil
}

// config is the plugin's configuration with another type and the given keys over it.
func (e *Env) config(plugin string, over map[string]any) ([]byte, error) {
	var conf map[string]any
	if err := json.Unmarshal(e.stdin, &conf); err != nil {
		return nil, fmt.Errorf("parse the configuration: %w", err)
	}
	conf["type"] = plugin
	for key, value := range over {
		conf[key] = value
	}
	return json.Marshal(conf)
}

// Delegate lets another plugin of the test bed's CNI folder do the work, with this plugin's configuration ("ipam" included)
// and the given keys over it.
func (e *Env) Delegate(plugin string, over map[string]any) (*current.Result, error) {
	conf, err := e.config(plugin, over)
	if err != nil {
		return nil, err
	}
	result, err := invoke.DelegateAdd(context.Background(), plugin, conf, nil)
	if err != nil {
		return nil, fmt.Errorf("delegate to %s: %w", plugin, err)
	}
	return current.NewResultFromResult(result)
}

// delegated is the Del that belongs to Delegate.
func delegated(plugin string) func(*Env) error {
	return func(e *Env) error {
		conf, err := e.config(plugin, nil)
		if err != nil {
			return err
		}
		return invoke.DelegateDel(context.Background(), plugin, conf, nil)
	}
}

// Addresses asks the IPAM plugin for the pod's addresses: an IPv4 and an IPv6 address with the test bed's prefixes and gateways,
// in this order. The result has no links yet.
func (e *Env) Addresses() (*current.Result, error) {
	return e.Delegate("host-local", nil)
}

// Previous is the result of ADD, which the runtime keeps and hands to DEL.
func (e *Env) Previous() (*current.Result, error) {
	var conf types.NetConf
	if err := json.Unmarshal(e.stdin, &conf); err != nil {
		return nil, fmt.Errorf("parse the configuration: %w", err)
	}
	if err := version.ParsePrevResult(&conf); err != nil {
		return nil, fmt.Errorf("parse the result of ADD: %w", err)
	}
	if conf.PrevResult == nil {
		return &current.Result{}, nil // ADD did not get that far
	}
	return current.NewResultFromResult(conf.PrevResult)
}

// Clean gives the addresses back and removes the host's end of the veth, which takes the pod's with it.
func (e *Env) Clean() error {
	return errors.Join(delegated("host-local")(e), removeLink(e.HostLink))
}

// removeLink removes a link of the calling thread's namespace; one that is not there is no error.
func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// VethOptions are what datapaths vary about a veth pair.
type VethOptions struct {
	// HostMAC is the MAC of the host's end; nil lets the kernel draw one.
	HostMAC net.HardwareAddr
	// PodMAC is the same for the pod's end.
	PodMAC net.HardwareAddr
	// MTU is the kernel's default if 0.
	MTU int
}

// Veth makes a veth pair in the calling thread's namespace, HostLink, with the other end in the pod, IfName. Both are up.
func (e *Env) Veth(options VethOptions) (host netlink.Link, err error) {
	ns, err := openNS(e.NetNS)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = e.HostLink, options.HostMAC, options.MTU
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: e.IfName, PeerHardwareAddr: options.PodMAC, PeerNamespace: netlink.NsFd(int(ns))}
	if err := netlink.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("make veth %s: %w", e.HostLink, err)
	}
	if host, err = linkUp(e.HostLink); err != nil {
		return nil, err
	}
	return host, e.Inside(func() error {
		_, err := linkUp(e.IfName)
		return err
	})
}

// linkUp sets a link of the calling thread's namespace up and reads it.
func linkUp(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set %s up: %w", name, err)
	}
	return link, nil
}

// MAC is one for the host's end, the same in every call for the pod. A plugin that sets one keeps udev from changing it.
func (e *Env) MAC() net.HardwareAddr {
	sum := sha256.Sum256([]byte(e.ContainerID + "/mac"))
	sum[0] = sum[0]&^1 | 2 // unicast, locally administered
	return net.HardwareAddr(sum[:6])
}

// Interfaces fills in the links of a result: the host's end, nil where it is not in the node's namespace, and the pod's, which
// every address then belongs to.
func (e *Env) Interfaces(result *current.Result, host netlink.Link) (*current.Result, error) {
	result.Interfaces = nil
	if host != nil {
		result.Interfaces = append(result.Interfaces, &current.Interface{Name: host.Attrs().Name, Mac: host.Attrs().HardwareAddr.String()})
	}
	err := e.Inside(func() error {
		link, err := netlink.LinkByName(e.IfName)
		if err != nil {
			return fmt.Errorf("find %s: %w", e.IfName, err)
		}
		result.Interfaces = append(result.Interfaces, &current.Interface{Name: e.IfName, Mac: link.Attrs().HardwareAddr.String(), Sandbox: e.NetNS})
		return nil
	})
	for _, ip := range result.IPs {
		ip.Interface = current.Int(len(result.Interfaces) - 1)
	}
	return result, err
}
