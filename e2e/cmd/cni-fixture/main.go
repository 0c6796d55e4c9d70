// SPDX-License-Identifier: Apache-2.0

// Command cni-fixture is a CNI plugin that imitates what known plugins do around a pod's network.
//
// It stands in a plugin list twice. As the first plugin ("stage": "prepare") it switches duplicate address detection off
// in the pod's namespace, as Calico and Cilium do, so that a pod does not wait a second and a half for it. As
// the last ("stage": "finish") the pod's Kubernetes namespace decides:
//
//	aws        adds permanent neighbors for the gateways with CREATE|EXCL, as Amazon's VPC CNI does: ADD fails
//	           if an entry is there already
//	mac-last   sets the MAC of the pod's link, to the value it has, as Cilium does: the kernel then flushes the
//	           link's neighbors, permanent ones too
//	slow       takes five seconds
//	fail       fails, with the link, addresses and routes of the plugin before it in place
//	any other  does nothing
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// delay is how long the slow network takes; longer than NRI gives a plugin.
const delay = 5 * time.Second

type config struct {
	types.NetConf
	Stage string `json:"stage"`
}

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: nothing, Check: nothing}, version.All, "neighpin test fixture")
}

func nothing(*skel.CmdArgs) error { return nil }

func add(args *skel.CmdArgs) error {
	var conf config
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return fmt.Errorf("parse the configuration: %w", err)
	}
	if conf.Stage == "prepare" {
		if err := withoutDAD(args.Netns); err != nil {
			return err
		}
		return types.PrintResult(&current.Result{CNIVersion: conf.CNIVersion}, conf.CNIVersion)
	}
	if err := version.ParsePrevResult(&conf.NetConf); err != nil {
		return fmt.Errorf("parse the previous result: %w", err)
	}
	result, err := current.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return fmt.Errorf("convert the previous result: %w", err)
	}
	if err := finish(args, result); err != nil {
		return err
	}
	return types.PrintResult(result, conf.CNIVersion)
}

func finish(args *skel.CmdArgs, result *current.Result) error {
	switch namespace := podNamespace(args.Args); namespace {
	case "aws":
		return pin(args.Netns, args.IfName, result)
	case "mac-last":
		return setMAC(args.Netns, args.IfName)
	case "slow":
		// The scenario itself, no wait for anything.
		time.Sleep(delay)
		return nil
	case "fail":
		return errors.New("the fixture fails in namespace fail")
	default:
		return nil
	}
}

// podNamespace finds the pod's Kubernetes namespace in CNI_ARGS.
func podNamespace(args string) string {
	for pair := range strings.SplitSeq(args, ";") {
		if value, ok := strings.CutPrefix(pair, "K8S_POD_NAMESPACE="); ok {
			return value
		}
	}
	return ""
}

// withoutDAD changes the defaults for links that will be made in the namespace.
func withoutDAD(path string) error {
	return inside(path, func() error {
		for _, name := range []string{"accept_dad", "dad_transmits"} {
			// The kernel shows the settings of the namespace that the calling thread is in.
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/"+name, []byte("0"), 0o644); err != nil {
				return fmt.Errorf("switch duplicate address detection off: %w", err)
			}
		}
		return nil
	})
}

// pin adds a permanent neighbor per gateway with the MAC of the host's end, the first link of ptp's result.
func pin(path, ifName string, result *current.Result) error {
	if len(result.Interfaces) == 0 {
		return errors.New("the previous result names no links")
	}
	mac, err := net.ParseMAC(result.Interfaces[0].Mac)
	if err != nil {
		return fmt.Errorf("parse the MAC of the host's end: %w", err)
	}
	return inside(path, func() error {
		link, err := netlink.LinkByName(ifName)
		if err != nil {
			return fmt.Errorf("find %s: %w", ifName, err)
		}
		for _, ip := range result.IPs {
			neighbor := &netlink.Neigh{LinkIndex: link.Attrs().Index, State: unix.NUD_PERMANENT, IP: ip.Gateway, HardwareAddr: mac}
			// NeighAdd asks for CREATE|EXCL.
			if err := netlink.NeighAdd(neighbor); err != nil {
				return fmt.Errorf("add neighbor %s: %w", ip.Gateway, err)
			}
		}
		return nil
	})
}

func setMAC(path, ifName string) error {
	return inside(path, func() error {
		link, err := netlink.LinkByName(ifName)
		if err != nil {
			return fmt.Errorf("find %s: %w", ifName, err)
		}
		if err := netlink.LinkSetHardwareAddr(link, link.Attrs().HardwareAddr); err != nil {
			return fmt.Errorf("set the MAC of %s: %w", ifName, err)
		}
		return nil
	})
}

// inside runs fn in the namespace and returns to the host's, without which skel takes the namespace for an error.
func inside(path string, fn func() error) (err error) {
	runtime.LockOSThread()
	host, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open the host's namespace: %w", err)
	}
	defer host.Close()
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", path, err)
	}
	defer ns.Close()
	if err := netns.Set(ns); err != nil {
		return fmt.Errorf("enter namespace %s: %w", path, err)
	}
	return errors.Join(fn(), netns.Set(host))
}
