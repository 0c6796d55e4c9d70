// SPDX-License-Identifier: Apache-2.0

// Command cni-pin is a chained CNI plugin that pins the gateways of a pod, with neighpin's own packages. It is for the
// benchmarks: a process per pod, to compare a daemon with. It passes on the result that it is given.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

func main() {
	nothing := func(*skel.CmdArgs) error { return nil }
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: nothing, Check: nothing}, version.All, "cni-pin")
}

func add(args *skel.CmdArgs) error {
	var conf types.PluginConf
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return fmt.Errorf("parse configuration: %w", err)
	}
	if err := version.ParsePrevResult(&conf); err != nil {
		return err
	}
	result, err := current.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return err
	}
	if err := pin(context.Background(), args.Netns); err != nil {
		return err
	}
	return types.PrintResult(result, conf.CNIVersion)
}

func pin(ctx context.Context, path string) (err error) {
	ns, err := netns.Open(path)
	if err != nil {
		return err
	}
	table, err := neighbor.Open(ns)
	ns.Close()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	found, err := table.Resolve(ctx, neighbor.Query{})
	if err != nil {
		return err
	}
	return table.Pin(ctx, found.Neighbors)
}
