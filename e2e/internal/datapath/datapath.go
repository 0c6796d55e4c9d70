// SPDX-License-Identifier: Apache-2.0

// Package datapath builds networks around a pod in the shapes that known CNI plugins give them, each as real links,
// addresses, routes and entries of the kernel.
//
// A pod chooses by its Kubernetes namespace: a pod in the namespace "cilium" gets the network of the Datapath with that
// name, one in a namespace that is no datapath's gets CNI's ptp. A test may hand one pod parameters by WriteParameters
// before it runs the pod.
package datapath

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// Datapath is one shape of a pod's network.
type Datapath struct {
	// Name is the Kubernetes namespace of pods that get it.
	Name string
	// Add builds the network and says what it is. The result must name the pod's link and its addresses.
	Add func(*Env) (*current.Result, error)
	// Del takes away what the end of the pod's network namespace does not take with it, and what may be there already or
	// not any more. Nil: the addresses are given back and the host's end of the veth is removed.
	Del func(*Env) error
}

// All are the datapaths that pods can choose.
func All() []Datapath { return slices.Concat(plain(), routed(), segments()) }

// find is the datapath of a Kubernetes namespace.
func find(namespace string) Datapath {
	all := All()
	if i := slices.IndexFunc(all, func(d Datapath) bool { return d.Name == namespace }); i >= 0 {
		return all[i]
	}
	return Datapath{Add: ptp, Del: delegated("ptp")}
}

// Add is CNI's ADD.
func Add(args *skel.CmdArgs) error {
	e, err := newEnv(args)
	if err != nil {
		return err
	}
	result, err := find(e.PodNamespace).Add(e)
	if err != nil {
		return fmt.Errorf("build the datapath of pod %s/%s: %w", e.PodNamespace, e.PodName, err)
	}
	var conf types.NetConf
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return fmt.Errorf("parse the configuration: %w", err)
	}
	return types.PrintResult(result, conf.CNIVersion)
}

// Del is CNI's DEL, which may come more than once and without a network namespace.
func Del(args *skel.CmdArgs) error {
	e, err := newEnv(args)
	if err != nil {
		return err
	}
	del := find(e.PodNamespace).Del
	if del == nil {
		del = (*Env).Clean
	}
	if err := del(e); err != nil {
		return fmt.Errorf("remove the datapath of pod %s/%s: %w", e.PodNamespace, e.PodName, err)
	}
	return nil
}
