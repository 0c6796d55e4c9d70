// SPDX-License-Identifier: Apache-2.0

// Command cni-datapath is the test bed's CNI plugin: it builds a pod's network in the shape that the pod's Kubernetes
// namespace names (see package datapath), and CNI's ptp for any other.
package main

import (
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/neighpin/neighpin/e2e/internal/datapath"
)

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: datapath.Add, Del: datapath.Del, Check: func(*skel.CmdArgs) error { return nil }},
		version.All, "neighpin test bed")
}
