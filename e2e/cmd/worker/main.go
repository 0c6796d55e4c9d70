// SPDX-License-Identifier: Apache-2.0

// Command worker is a runtime with a network namespace of its own, as small as one can be: an example for those who write
// a real one (docs/runtime-authors.md), and a fixture of the suite.
//
// It is the program of a container of runc, in a pod that asked for neighpin's pins and live file. It takes the pod's link
// into a namespace that it makes, sets the link up there as it was, pins there what the live file says, and runs gVisor in
// that namespace with a program of its own image. Moving a link flushes its neighbors, and nobody but this program
// knows of the new namespace: what is not pinned here is asked for on the wire.
//
//	worker [--restore DIR] [--hold FIFO] [--unpinned] PROGRAM [ARG...]
//
// Of the product it needs pkg/annotation, pkg/neighbor and pkg/netns. What it does with them is in neighbors.go; the rest is
// every such runtime's own business.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/neighpin/neighpin/pkg/netns"
)

const (
	liveFile = "/run/neighpin/neighbors.json"
	interior = "/run/netns/interior"
	link     = "eth0"
)

// options are the command line.
type options struct {
	restore  string
	hold     string
	unpinned bool
	program  []string
}

func main() {
	var o options
	flag.StringVar(&o.restore, "restore", "", "folder of a checkpoint to go on from")
	flag.StringVar(&o.hold, "hold", "", "named pipe to wait for, until somebody writes to it, before gVisor starts: for a look at the namespace, which gVisor takes over")
	flag.BoolVar(&o.unpinned, "unpinned", false, "pin nothing, to see what happens then")
	flag.Parse()
	o.program = flag.Args()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if len(o.program) == 0 {
		return errors.New("no program named")
	}
	pod, err := netns.Self()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pod.Close()) }()
	// Read first: the cookie in the file is that of the pod's namespace, which is still this process's.
	neighbors, err := readNeighbors(liveFile, pod)
	if err != nil {
		return err
	}

	own, err := makeNamespace(pod, interior)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, own.Close()) }()
	if err := moveLink(link, pod, own); err != nil {
		return err
	}
	if !o.unpinned {
		if err := pin(ctx, own, neighbors); err != nil {
			return err
		}
	}
	if o.hold != "" {
		if _, err := os.ReadFile(o.hold); err != nil {
			return err
		}
	}
	return runSandbox(ctx, o)
}
