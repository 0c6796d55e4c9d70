// SPDX-License-Identifier: Apache-2.0

package gain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/setup"
	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// The wish of a pod that is to be left alone, or to be pinned.
const pinAnnotation = "neighpin.io/pin"

// returning is the Kubernetes namespace of pods that are served by the daemon with returnPath on, whose datapath is CNI's ptp.
// returningState is that daemon's state folder.
const (
	returning      = "returning"
	returningState = "/run/neighpin-returning"
)

// bed is a node with neighpin on it, somebody to connect to, and, once it listens, an ear on every link.
type bed struct {
	node    *node.Node
	daemons []*node.Daemon
	greeter *greeter
	capture *wire.Capture
}

// newBed starts all of it in the namespace of this process, which has to be an enclosure's, with a daemon for each of the options.
func newBed(ctx context.Context, daemons ...node.DaemonOptions) (_ *bed, err error) {
	programs, err := setup.FromEnvironment()
	if err != nil {
		return nil, err
	}
	b := &bed{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close(context.WithoutCancel(ctx)))
		}
	}()
	if b.node, err = node.Start(ctx, programs, node.Options{}); err != nil {
		return nil, err
	}
	// An earlier node's pods had the same names, and what they wrote is not to be taken for these pods' words.
	if err := os.RemoveAll(filepath.Join(b.node.LogDir(), "pods")); err != nil {
		return nil, fmt.Errorf("remove the logs of an earlier node: %w", err)
	}
	if b.greeter, err = greet(ctx); err != nil {
		return nil, err
	}
	for _, options := range daemons {
		options.Args = append([]string{"--log-level", "info"}, options.Args...) // a node's own is for tests
		daemon, err := b.node.StartDaemon(options)
		if err != nil {
			return nil, err
		}
		b.daemons = append(b.daemons, daemon)
		if err := daemon.Ready(ctx); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// listen begins the capture on all links.
func (b *bed) listen() (err error) {
	b.capture, err = wire.Open()
	return err
}

// close takes away what there is. A capture that lost messages is an error: what it counted is not all.
func (b *bed) close(ctx context.Context) error {
	var errs []error
	if b.capture != nil {
		errs = append(errs, b.capture.Close())
	}
	for _, d := range b.daemons {
		errs = append(errs, d.Stop(ctx))
	}
	if b.node != nil {
		errs = append(errs, b.node.Close(ctx))
	}
	if b.greeter != nil {
		errs = append(errs, b.greeter.Close())
	}
	for _, folder := range []string{node.StateDir, returningState} {
		errs = append(errs, os.RemoveAll(folder))
	}
	return errors.Join(errs...)
}

// ip runs commands of iproute2, one per line, up to the first that fails.
func ip(ctx context.Context, commands string) error {
	for command := range strings.Lines(commands) {
		args := strings.Fields(command)
		if len(args) == 0 {
			continue
		}
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// network is where pods are put, and what is known of it.
type network struct {
	name      string // for people
	namespace string // of Kubernetes, by which its datapath is chosen
	// gateway4 and gateway6 are the pods'.
	gateway4, gateway6 netip.Addr
	// questions is how often a pod without pins has to ask for each at least.
	questions int
}

// attempt is a gVisor pod whose program makes its first connections.
type attempt struct {
	pod       *node.Pod
	container *node.Container
	pinned    bool // or to be so
	late      bool // it was to be, and was not in time, or nobody knows: it is no pinned pod
	network   network
	took      [2]time.Duration // to the first byte by IPv4, then by IPv6
	until     time.Time        // when containerd was told of the latter
}

// start runs a pod whose program connects to the greeter beyond the gateways, at once when it starts, and does not wait for it.
// One that is to be pinned says nothing, or, where the daemon with returnPath is to serve it, asks for it.
func (b *bed) start(ctx context.Context, n network, pinned bool) (*attempt, error) {
	spec := node.PodSpec{Namespace: n.namespace, Handler: "runsc", Annotations: map[string]string{}}
	switch {
	case !pinned:
		spec.Annotations[pinAnnotation] = "false"
	case n.namespace == returning:
		spec.Annotations[pinAnnotation] = "true"
	}
	pod, err := b.node.RunPod(ctx, spec)
	if err != nil {
		return nil, err
	}
	args := []string{"first"}
	for _, beyond := range node.Beyond() {
		args = append(args, b.greeter.at(netip.MustParseAddrPort(beyond).Addr()).String())
	}
	container, err := pod.Run(ctx, node.ContainerSpec{Args: args})
	return &attempt{pod: pod, container: container, pinned: pinned, network: n}, err
}

// patience bounds a pod's first connections once it runs.
const patience = time.Minute

// wait waits for what the pod's program says.
func (a *attempt) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return await.Condition(ctx, "the first connections of pod "+a.pod.Name, func() error {
		output, err := a.container.Output()
		if err != nil {
			return err
		}
		took, until, err := parse(output)
		if err == nil && len(took) < len(a.took) {
			err = fmt.Errorf("%d of %d connections so far", len(took), len(a.took))
		}
		if err == nil {
			a.took, a.until = [2]time.Duration(took), until
		}
		return err
	})
}

// parse reads what `workload first` has printed, in containerd's form: time, stream, a tag, the text. until is the last line's time.
func parse(output string) (took []time.Duration, until time.Time, err error) {
	for line := range strings.Lines(output) {
		fields := strings.Fields(line)
		if len(fields) != 6 || fields[3] != "first" {
			return nil, until, fmt.Errorf("read the workload's output: %q", line)
		}
		ns, err := strconv.ParseInt(fields[5], 10, 64)
		if err != nil {
			return nil, until, fmt.Errorf("read the workload's output: %w", err)
		}
		took = append(took, time.Duration(ns))
		if until, err = time.Parse(time.RFC3339Nano, fields[0]); err != nil {
			return nil, until, fmt.Errorf("read the workload's output: %w", err)
		}
	}
	return took, until, nil
}

// late counts those whose pins were not in time, as a bar.
func late(name string, attempts []*attempt) bench.Limit {
	n := 0
	for _, a := range attempts {
		if a.late {
			n++
		}
	}
	return bench.Limit{Of: name, Figure: "pods pinned too late", Value: float64(n)}
}

// removal is how many pods are removed at a time.
const removal = 4

func (b *bed) remove(ctx context.Context, attempts []*attempt) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(removal)
	for _, a := range attempts {
		group.Go(func() error { return a.pod.Remove(ctx) })
	}
	return group.Wait()
}
