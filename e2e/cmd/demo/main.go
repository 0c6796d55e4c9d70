// SPDX-License-Identifier: Apache-2.0

// Command demo shows neighpin's main job on real containerd and gVisor: a pod
// that asks the network for its gateways, and one that need not. It builds what
// is missing, runs in namespaces of its own, and takes everything away again.
// Its exit code is 0 only if what it shows is what should be seen.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/neighpin/neighpin/e2e/internal/enclosure"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

func main() {
	os.Exit(enclosure.Main(prepare, inside))
}

// prepare builds what is missing, outside the enclosure.
func prepare(ctx context.Context) ([]string, error) {
	cache, err := parts.Cache()
	if err != nil {
		return nil, err
	}
	s := stage{out: os.Stdout, color: colorful()}
	s.title("Getting ready what is missing: containerd, gVisor, CNI plugins, neighpin")
	s.say("The first run compiles them from their Go modules: about seven minutes of processor time, and 3 GiB with Go's own caches.")
	s.say("Later runs find them in %s, and so does one that was interrupted.", cache)
	programs, err := setup.All(ctx, os.Stdout, setup.Newest)
	if err != nil {
		return nil, err
	}
	return programs.Environment()
}

func inside() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := stage{out: os.Stdout, color: colorful()}
	if err := play(ctx, s); err != nil {
		if ctx.Err() != nil {
			fmt.Fprintln(os.Stderr, "\ndemo: interrupted; what it had started is taken away")
			return 130
		}
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		return 1
	}
	return 0
}

// play runs the acts on one node.
func play(ctx context.Context, s stage) (err error) {
	programs, err := setup.FromEnvironment()
	if err != nil {
		return err
	}
	s.title("Starting a node: containerd with runc and gVisor, a dual-stack CNI, in namespaces of its own")
	n, err := node.Start(ctx, programs, node.Options{})
	if err != nil {
		return err
	}
	defer func() {
		s.title("Cleaning up")
		err = errors.Join(err, n.Close(context.WithoutCancel(ctx)))
		if err == nil {
			s.say("pods, containerd and namespaces are gone; what stays is the cache and what apt-get had to install, if anything")
		}
	}()
	a := act{stage: s, node: n}
	if err := a.without(ctx); err != nil {
		return err
	}
	return a.with(ctx)
}
